"""Sections on their way into, or out of, the basin in which the theory says that they go (claim C7)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
from layerprune.analysis.basin import VARIANT, Fates, fates
from layerprune.analysis.frames import Study
from layerprune.analysis.gate_traces import archs_with, traces_of

TITLE = "Do sections that meet the pruning condition reopen?"
CAPTION = (
    "Trainings in which nothing is removed until theta is rounded. Each line is a section: the norm of its weights "
    "and its theta, scaled so that the boundary given by theory is the black line. Below and left of it, a section "
    "must close. A cross marks where the pruning condition was met; a section that is open at the end nevertheless is "
    "orange. The lowest three seeds are drawn, on one scale; claim C7 counts every seed."
)
NEEDS = "the variant stay of gated"
SHOWS = "x"
SEEDS_SHOWN = 3
COLUMNS = ["arch", "seed", "section", "step", "x", "y", "may_go", "came_back"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a section and check; `may_go`: at this check or before, `came_back`: is open at the end although it might
    have gone. An architecture without a record has one row without numbers."""
    archs = archs_with(study, VARIANT)
    traces = sorted(traces_of(study, VARIANT), key=lambda trace: (archs.index(trace.record.arch), trace.record.seed))
    shown = set(sorted({trace.record.seed for trace in traces})[:SEEDS_SHOWN])
    chosen = [found for trace in traces if trace.record.seed in shown and (found := fates(trace)) is not None]
    rows = [row for found in chosen for row in _rows(found)]
    there = {row["arch"] for row in rows}
    rows += [{"arch": arch} for arch in archs if arch not in there]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(found: Fates) -> Iterator[dict]:
    for section in range(found.x.shape[1]):
        for check, step in enumerate(found.step):
            yield {
                "arch": found.trace.record.arch,
                "seed": found.trace.record.seed,
                "section": section,
                "step": int(step),
                "x": found.x[check, section],
                "y": found.y[check, section],
                "may_go": int(found.may_go[check, section]),
                "came_back": int(found.may_go[-1, section] and not found.closed[section]),
            }


# --- drawing --------------------------------------------------------------------------------------------------

NEVER_MET, GONE, BACK, BOUNDARY = "#8C8C8C", "#0072B2", "#D55E00", "#000000"
TICKS = tuple(digit * power for power in (0.01, 0.1, 1, 10, 100, 1000) for digit in (1, 2, 5))


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture and seed; `data` as from `prepare`."""
    panels = list(dict.fromkeys(zip(data["arch"], data["seed"].fillna(-1), strict=True)))
    figure, axes = style.grid(len(panels))
    for place, (ax, (arch, seed)) in enumerate(zip(axes, panels, strict=True)):
        rows = data[(data["arch"] == arch) & (data["seed"].fillna(-1) == seed)]
        if rows["step"].isna().all():
            ax.set_title(arch)
            style.say_instead(ax, "not run")
            continue
        _panel(ax, rows)
        _limit(ax, data)
        ax.set_title(f"{arch}, seed {seed:.0f}")
        ax.set(xlabel="weights, w / w*", ylabel="theta, scaled" if place % 3 == 0 else "")
    style.legend(figure, _handles())
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    for _, line in rows.sort_values("step").groupby("section"):
        met = line[line["may_go"] > 0]
        color = BACK if line["came_back"].any() else GONE if len(met) else NEVER_MET
        ax.plot(line["x"], line["y"], color=color, linewidth=0.9, alpha=0.8)
        if len(met):
            ax.plot(met["x"].iloc[0], met["y"].iloc[0], "x", color=color, markersize=5)


def _limit(ax: Axes, data: pd.DataFrame) -> None:
    """One scale for all seeds, and the boundary across it."""
    low, high = min(0.5, data["x"].min()), max(2.0, data["x"].max())
    xs = np.geomspace(0.9 * low, 1.3 * high, 60)
    ax.plot(xs, 1 - xs, color=BOUNDARY, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_xlim(xs[0], xs[-1])
    ticks = [tick for tick in TICKS if xs[0] <= tick <= xs[-1]]
    ax.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    bottom, top = min(data["y"].min(), 0.0), data["y"].max()
    ax.set_ylim(bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom))


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=BOUNDARY, label="boundary by theory"),
        Line2D([], [], color=GONE, marker="x", label="met, closed at the end"),
        Line2D([], [], color=BACK, marker="x", label="met, open at the end"),
        Line2D([], [], color=NEVER_MET, label="condition never met"),
    ]
