"""theta of every section over the epochs of gated's training."""

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import frames, style
from layerprune.analysis.frames import Study
from layerprune.core.settings import steps_of

TITLE = "theta of every section (gated)"
CAPTION = (
    "The gate probability theta of every section over the epochs of gated training, sections near the input dark, "
    "those near the output light. A cross marks when a section was removed for good; dotted line: end of the warm- "
    "up; dashed line: theta is rounded."
)
SEEDS_SHOWN = 3
"""That many seeds of theta are drawn, the lowest first; more would be too small to read."""


def prepare(study: Study) -> pd.DataFrame:
    """gated's theta by epoch (kind `theta`), removals (kind `removed`, theta 0), and the ends of warm-up and gates.

    `epoch` of a removal is a fraction of epochs, `epochs` the length of the training; kinds `warmup` and
    `consolidation` have one row a run.
    """
    chosen = study.runs[(study.runs["method"] == "gated") & (study.runs["variant"] == "default")]
    first = sorted(set(chosen["seed"]))[:SEEDS_SHOWN]
    rows = [_theta_of(run) for run in chosen[chosen["seed"].isin(first)].to_dict("records")]
    columns = ["arch", "seed", "status", "epochs", "kind", "section", "epoch", "theta"]
    return pd.concat([pd.DataFrame(columns=columns), *rows], ignore_index=True)[columns]


def _theta_of(run: dict) -> pd.DataFrame:
    names = {name: run[name] for name in ("arch", "seed", "status", "epochs")}
    curves = frames.read_curves(pd.DataFrame([run]))
    columns = [name for name in curves.columns if name.startswith("theta_")]
    if not columns:
        return pd.DataFrame([names | {"kind": "none"}])
    rows = [
        names | {"kind": "theta", "section": place, "epoch": epoch, "theta": value}
        for place, name in enumerate(columns)
        for epoch, value in zip(curves["epoch"], curves[name], strict=True)
        if pd.notna(value)
    ]
    return pd.DataFrame([*rows, *_events(names, run)])


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

LINES = {"warmup": ":", "consolidation": "--"}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture, one per seed; `data` as from `prepare`."""
    archs, seeds = list(dict.fromkeys(data["arch"])), sorted(set(data["seed"]))
    if not archs:
        return style.empty_figure(heading, "gated is not part of this preset")
    figure, axes = style.grid(len(archs) * len(seeds), columns=len(seeds), size=(3.0, 1.9))
    panels = iter(axes)
    for arch in archs:
        for seed in seeds:
            rows = data[(data["arch"] == arch) & (data["seed"] == seed)]
            _panel(next(panels), rows, f"{arch}, seed {seed}", data[data["arch"] == arch]["epochs"].max())
    style.legend(figure, _handles())
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
    ax.label_outer(remove_inner_ticks=False)
    ax.tick_params(labelbottom=True)  # architectures train for different numbers of epochs


def _reason(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "not planned with this seed"
    status = rows["status"].iloc[0]
    return "not run" if status == "missing" else f"no curves of theta\n(status: {status})"


def section_color(section: float, sections: int) -> tuple[float, ...]:
    """Dark near the input, light near the output; the palest tenth of the map is too faint for lines."""
    return colormaps["viridis"](0.9 * section / max(sections - 1, 1))


def _handles() -> list[Line2D]:
    names = ("first section", "middle section", "last section")
    sections = [Line2D([], [], color=section_color(place, 3), label=name) for place, name in enumerate(names)]
    removed = Line2D([], [], color="#555555", marker="x", linestyle="none", label="removed for good")
    ends = {"end of warm-up": LINES["warmup"], "consolidation": LINES["consolidation"]}
    lines = [Line2D([], [], color="#555555", linestyle=line, label=text) for text, line in ends.items()]
    return [*sections, removed, *lines]
