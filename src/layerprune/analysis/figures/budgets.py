"""What remains under a budget, instead of a price."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import KEY, Study, read_plain_latencies
from layerprune.suite import store
from layerprune.suite.record import Record
from layerprune.system.paths import RunKey

TITLE = "A budget instead of a price"
CAPTION = (
    "Gated training with a budget, one training each, compared with a search by hand: a bisection over the trainings "
    "of the sweep of nu, until one comes within the grey band (one section, or 2 % of the whole if that is more). The "
    "number beside a square counts the trainings of that search; a hollow square never reached the band. Each mark is "
    "a seed, shifted to the left (budget) or to the right (search). Latency: measured alternately with dense if "
    "available, otherwise by the training itself at its start and end."
)
NEEDS = "variants target-... of gated"
SHOWS = "left"
KINDS = {"target_depth": "sections", "target_macs": "macs", "target_latency": "latency"}
"""Setting -> the budget: removable sections to keep, or the share (%) of the network's MACs or latency.

Latency comes from `layerprune latency`, which alternates with the dense network. Without that table it is what training
itself measured, within a tenth of a second, at its start and at its end."""
COLUMNS = ["arch", "seed", "kind", "asked", "left", "tolerance", "runs_by_hand", "left_by_hand"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a run with a budget: asked and left, and the tolerance (a section, or 2 % of the whole if more).

    Beside them a search by hand: how many trainings of the sweep of nu a bisection needs to come so near, and what the
    last of them left; NaN without a sweep of that seed. `left` is NaN where the run is missing.
    """
    gated = study.runs[study.runs["method"] == "gated"]
    counted = gated[statistics.counted(gated)]
    sweep = counted[statistics.on_sweep_of_prices(counted)]
    asked = gated[gated["variant"].str.startswith("target-")]
    latencies = read_plain_latencies(study.preset, study.dataset)
    rows = [_row(run, sweep[sweep["arch"] == run["arch"]], latencies) for run in asked.to_dict("records")]
    return pd.DataFrame([row for row in rows if row is not None], columns=COLUMNS)


def _row(run: dict, sweep: pd.DataFrame, latencies: pd.DataFrame) -> dict | None:
    row = {"arch": run["arch"], "seed": run["seed"]}
    key = RunKey(**{name: run[name] for name in KEY})
    if run["status"] not in ("ok", "collapsed", "unpruned"):
        return row
    found = store.find(key)
    settings = found.provenance.config["settings"]
    asked = [(name, kind) for name, kind in KINDS.items() if settings.get(name) is not None]
    if not asked:  # a variant of that name which asks for no budget
        return None
    setting, kind = asked[0]
    if kind == "latency":
        return row | _of_latency(found, 100 * settings[setting], latencies)
    factor = 100 if kind == "macs" else 1
    section = 100 * (run["macs_dense"] - _macs_of_none(sweep, run)) / run["macs_dense"] / run["sections_total"]
    row |= {"kind": kind, "asked": factor * settings[setting], "left": _left(run, kind)}
    row["tolerance"] = 1.0 if kind == "sections" else max(2.0, section)
    tried = sorted((run["nu"], _left(run, kind)) for run in _of_seed(sweep, run["seed"]))
    if len(tried) > 1:
        row["runs_by_hand"], row["left_by_hand"] = bisection(
            [left for _, left in tried], row["asked"], row["tolerance"]
        )
    return row


def _of_latency(found: Record, asked: float, latencies: pd.DataFrame) -> dict:
    """By hand there is no such search: the sweep's networks were not measured in their trainings."""
    told = found.details["latency"]
    section = 100 * sum(told["section_ms"]) / len(told["section_ms"]) / told["whole_ms"]
    measured = _share_of_dense(found, latencies)
    left = 100 * (told["left_ms"] / told["whole_ms"] if measured is None else measured)
    return {"kind": "latency", "asked": asked, "left": left, "tolerance": max(2.0, section)}


def _share_of_dense(found: Record, latencies: pd.DataFrame) -> float | None:
    """By the table of latencies; None where it does not have both, or the run has changed since."""
    batch = found.provenance.config["settings"].get("latency_batch", 1)
    rows = latencies[(latencies["arch"] == found.arch) & (latencies["batch"] == batch)]
    dense = rows[(rows["method"] == "dense") & (rows["variant"] == "default")]
    own = rows[(rows["method"] == "gated") & (rows["variant"] == found.variant) & (rows["seed"] == found.seed)]
    own = own[own["macs"] == found.macs]
    return own["median_ms"].iloc[0] / dense["median_ms"].iloc[0] if len(own) and len(dense) else None


def _left(run: dict, kind: str) -> float:
    return run["sections_left"] if kind == "sections" else 100 * run["macs"] / run["macs_dense"]


def _macs_of_none(sweep: pd.DataFrame, run: dict) -> float:
    """Multiply-adds without any removable section, by the runs that kept fewest."""
    runs = [*_of_seed(sweep, run["seed"]), run]
    fewest = min(runs, key=lambda each: each["sections_left"])
    if fewest["sections_left"] == run["sections_total"]:
        return run["macs_dense"]
    each = (run["macs_dense"] - fewest["macs"]) / (run["sections_total"] - fewest["sections_left"])
    return run["macs_dense"] - each * run["sections_total"]


def _of_seed(sweep: pd.DataFrame, seed: int) -> Iterator[dict]:
    yield from sweep[sweep["seed"] == seed].to_dict("records")


def bisection(left: Sequence[float], asked: float, tolerance: float) -> tuple[int, float]:
    """Trainings that a bisection over rising prices makes until one leaves what is asked, and what the last one leaves.

    `left` in the order of the prices; more is left at lower prices.
    """
    low, high, runs = 0, len(left) - 1, 0
    while True:
        middle = (low + high) // 2
        runs += 1
        if abs(left[middle] - asked) <= tolerance or low >= high:
            return runs, left[middle]
        if left[middle] > asked:
            low = middle + 1
        else:
            high = max(low, middle - 1)


# --- drawing --------------------------------------------------------------------------------------------------

LABELS = {
    "sections": "removable sections",
    "macs": "multiply-adds (% of the whole)",
    "latency": "latency (% of the whole)",
}
BUDGET, HAND = "#D55E00", "#0072B2"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture and kind of budget; `data` as from `prepare`."""
    kinds = [kind if isinstance(kind, str) else "" for kind in data["kind"]]
    panels = list(dict.fromkeys(zip(data["arch"], kinds, strict=True)))
    panels = [panel for panel in panels if panel[1] or all(other[0] != panel[0] for other in panels if other[1])]
    figure, axes = style.grid(len(panels))
    for ax, (arch, kind) in zip(axes, panels, strict=True):
        ax.set_title(arch)
        if not kind:
            style.say_instead(ax, "not run")
            continue
        _panel(ax, data[(data["arch"] == arch) & (data["kind"] == kind)])
        ax.set(xlabel=f"{LABELS[kind]}: budget", ylabel=f"{LABELS[kind]}: result")
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    seen = rows[["asked", "left", "left_by_hand"]].to_numpy(float)
    tolerance = rows["tolerance"].iloc[0]
    low, high = np.nanmin(seen) - 2 * tolerance, np.nanmax(seen) + 2 * tolerance
    line = np.array([low, high])
    ax.fill_between(line, line - tolerance, line + tolerance, color="#000000", alpha=0.1, linewidth=0)
    ax.plot(line, line, color="#555555", linewidth=0.9)
    apart = 0.035 * (high - low)
    seeds, counts = sorted(set(rows["seed"])), {}
    for row in rows.to_dict("records"):
        beside = 0.4 * apart * (seeds.index(row["seed"]) - (len(seeds) - 1) / 2)
        ax.plot(row["asked"] - apart + beside, row["left"], "o", color=BUDGET, markersize=4.5, alpha=0.8)
        if np.isnan(row["runs_by_hand"]):
            continue
        x, near = row["asked"] + apart + beside, abs(row["left_by_hand"] - row["asked"]) <= tolerance
        ax.plot(x, row["left_by_hand"], "s", color=HAND, markersize=4.5, fillstyle="full" if near else "none")
        counts[row["asked"], row["left_by_hand"], row["runs_by_hand"]] = x
    for (_, left, runs), x in counts.items():  # one number for seeds side by side
        ax.annotate(f"{runs:.0f}", (x, left), (4, -3), textcoords="offset points", fontsize=6.5, color=HAND)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.locator_params(nbins=7)


def _handles() -> list:
    return [
        Line2D([], [], color=BUDGET, marker="o", linestyle="none", label="with the budget"),
        Line2D([], [], color=HAND, marker="s", linestyle="none", label="price searched by hand"),
        Patch(color="#000000", alpha=0.1, label="within tolerance"),
    ]
