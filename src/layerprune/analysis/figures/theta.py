"""theta of every section over the epochs of gated's training."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import frames, style
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import PRIORS, GateTrace, traces_of, variant_of
from layerprune.core.settings import steps_of

TITLE = "theta of every section (gated)"
CAPTION = (
    "The gate probability theta of every section over the epochs of gated training; the colour is the section's place "
    "between input and output. A cross marks when a section was removed for good; dotted line: end of the warm-up; "
    "dashed line: theta is rounded. Theta was recorded after every epoch, and between epochs, at checks of the pruning "
    "condition, where the panel says how often; lines join what was recorded."
)
NEEDS = "gated training with its curves"
SHOWS = "theta"
SEEDS_SHOWN = 3
"""That many seeds of theta are drawn, the lowest first; more would be too small to read."""


def prepare(study: Study) -> pd.DataFrame:
    """gated's theta by epoch (kind `theta`), removals (kind `removed`, theta 0), and the ends of warm-up and gates.

    `epoch` is a fraction of epochs, `epochs` the length of the training, `every` the steps between two records
    (NaN: an epoch). What lies on a level line is left out; kinds `warmup` and
    `consolidation` have one row a run.
    """
    chosen = study.runs[(study.runs["method"] == "gated") & (study.runs["variant"] == "default")]
    first = sorted(set(chosen["seed"]))[:SEEDS_SHOWN]
    traces = {(trace.record.arch, trace.record.seed): trace for trace in traces_of(study, variant_of(PRIORS[0]))}
    rows = [
        _theta_of(run, _same_training(run, traces)) for run in chosen[chosen["seed"].isin(first)].to_dict("records")
    ]
    columns = ["arch", "seed", "status", "epochs", "every", "kind", "section", "epoch", "theta"]
    return pd.concat([pd.DataFrame(columns=columns), *rows], ignore_index=True)[columns]


def _same_training(run: dict, traces: Mapping[tuple[str, int], GateTrace]) -> GateTrace | None:
    """A run with a trace that removed the same sections in the same steps."""
    trace = traces.get((run["arch"], run["seed"]))
    return trace if trace is not None and trace.record.removed_step == run["removed_step"] else None


def _theta_of(run: dict, trace: GateTrace | None) -> pd.DataFrame:
    names = {name: run[name] for name in ("arch", "seed", "status", "epochs")}
    curves = frames.read_curves(pd.DataFrame([run]))
    columns = [name for name in curves.columns if name.startswith("theta_")]
    if not columns:
        return pd.DataFrame([names | {"kind": "none"}])
    names["every"] = _steps_between_rows(curves) if trace is None else trace.settings.check_interval
    epochs, thetas = curves["epoch"].to_numpy(float), curves[columns].to_numpy(float)
    if trace is not None:
        epochs, thetas = _with_trace(epochs, thetas, trace, run["steps_total"] / run["epochs"])
    rows = [
        names | {"kind": "theta", "section": place, "epoch": epoch, "theta": value}
        for place in range(len(columns))
        for epoch, value in _corners(epochs, thetas[:, place])
    ]
    return pd.DataFrame([*rows, *_events(names, run)])


def _steps_between_rows(curves: pd.DataFrame) -> float | None:
    """Steps from one row of the curves to the next; None if rows are epochs apart."""
    within = (curves["epoch"] % 1 > 0).any()
    return float(np.median(np.diff(curves["step"]))) if within else None


def _with_trace(
    epochs: np.ndarray, thetas: np.ndarray, trace: GateTrace, steps_per_epoch: float
) -> tuple[np.ndarray, np.ndarray]:
    """The trace, and the epochs before its first and after its last check."""
    checks = trace.step / steps_per_epoch
    outside = (epochs < checks[0]) | (epochs > checks[-1])
    epochs, thetas = np.concatenate([epochs[outside], checks]), np.concatenate([thetas[outside], trace.theta])
    order = np.argsort(epochs, kind="stable")
    return epochs[order], thetas[order]


def _corners(epochs: np.ndarray, values: np.ndarray) -> Iterator[tuple[float, float]]:
    """A line's points without NaN and without those between two of the same height."""
    epochs, values = epochs[~np.isnan(values)], values[~np.isnan(values)]
    level = np.zeros(len(values), bool)
    level[1:-1] = (values[1:-1] == values[:-2]) & (values[1:-1] == values[2:])
    yield from zip(epochs[~level].tolist(), values[~level].tolist(), strict=True)


def _events(names: dict, run: dict) -> list[dict]:
    if not run["epochs"] > 0:
        return []
    steps_per_epoch = run["steps_total"] / run["epochs"]
    removed = [
        names | {"kind": "removed", "section": place, "epoch": step / steps_per_epoch, "theta": 0.0}
        for place, step in enumerate(run["removed_step"])
        if step is not None
    ]
    warmup = steps_of(run["warmup"], max(1, round(steps_per_epoch))) / steps_per_epoch
    ends = {"warmup": warmup, "consolidation": run["consolidate_at"] * run["epochs"]}
    return [*removed, *(names | {"kind": kind, "epoch": epoch} for kind, epoch in ends.items())]


# --- drawing --------------------------------------------------------------------------------------------------

MAP = LinearSegmentedColormap.from_list("sections", colormaps["viridis"](np.linspace(0, 0.9, 64)))
"""The palest tenth of viridis is too faint for lines."""
BAR = {"location": "bottom", "shrink": 0.25, "ticks": [0, 1], "anchor": (0.0, 1.0)}
BAR_HEIGHT = 0.11
"""Inches."""
LINES = {"warmup": ":", "consolidation": "--"}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture that has run, one per seed; `data` as from `prepare`."""
    made = data[data["status"] != "missing"]
    data = data[data["arch"].isin(made["arch"])] if len(made) else data
    archs, seeds = list(dict.fromkeys(data["arch"])), sorted(set(data["seed"]))
    figure, axes = style.grid(len(archs) * len(seeds), columns=len(seeds), size=(3.0, 1.9))
    panels = iter(axes)
    for arch in archs:
        for seed in seeds:
            rows, ax = data[(data["arch"] == arch) & (data["seed"] == seed)], next(panels)
            if rows.empty:  # not planned with this seed
                ax.remove()
                continue
            _panel(ax, rows, f"{arch}, seed {seed}", data[data["arch"] == arch]["epochs"].max())
    style.legend(figure, _handles())
    width, height = figure.get_size_inches()
    flat = {"fraction": BAR_HEIGHT / height, "aspect": BAR["shrink"] * width / BAR_HEIGHT}
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), MAP), ax=figure.axes, **BAR, **flat)
    bar.ax.set_xticklabels(["first", "last section"])
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, name: str, epochs: float) -> None:
    ax.set_title(name)
    courses, removed = rows[rows["kind"] == "theta"], rows[rows["kind"] == "removed"]
    if courses.empty:
        style.say_instead(ax, _reason(rows))
        return
    sections = int(courses["section"].max()) + 1
    for section, course in courses.groupby("section"):
        color, gone = section_color(section, sections), removed[removed["section"] == section]
        ax.plot([*course["epoch"], *gone["epoch"]], [*course["theta"], *gone["theta"]], color=color, linewidth=1.1)
        # One mark at a time: an empty unclipped line would claim the figure's corner in the layout.
        for epoch in gone["epoch"]:
            ax.plot([epoch], [0], marker="x", color=color, linestyle="none", clip_on=False, zorder=4)
    if len(every := rows["every"].dropna()):
        where = {"ha": "right", "va": "center", "transform": ax.transAxes, "fontsize": 7, "color": "#555555"}
        ax.text(0.98, 0.5, f"every {every.iloc[0]:.0f} steps", **where)
    for kind, line in LINES.items():
        for epoch in rows[rows["kind"] == kind]["epoch"]:
            ax.axvline(epoch, color="#555555", linestyle=line, linewidth=0.9, zorder=1)
    ax.set(
        xlabel="epoch",
        ylabel="theta",
        ylim=(-0.06, 1.06),
        yticks=[0, 0.5, 1],
        xlim=(-0.02 * epochs, 1.02 * epochs),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.label_outer(remove_inner_ticks=False)
    ax.tick_params(labelbottom=True)  # architectures train for different numbers of epochs


def _reason(rows: pd.DataFrame) -> str:
    status = rows["status"].iloc[0]
    return "not run" if status == "missing" else f"no curves of theta\n(status: {status})"


def section_color(section: float, sections: int) -> tuple[float, ...]:
    """Dark near the input, light near the output."""
    return MAP(section / max(sections - 1, 1))


def _handles() -> list[Line2D]:
    removed = Line2D([], [], color="#555555", marker="x", linestyle="none", label="removed for good")
    ends = {"end of warm-up": LINES["warmup"], "consolidation": LINES["consolidation"]}
    lines = [Line2D([], [], color="#555555", linestyle=line, label=text) for text, line in ends.items()]
    return [removed, *lines]
