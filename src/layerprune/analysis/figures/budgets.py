"""What is left where a budget is asked for, in place of a price."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerprune.analysis import style
from layerprune.analysis.prepare.budgets import budgets as prepare

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "A budget in place of a price"
CAPTION = (
    "Gated training whose price follows a budget, one training each, and a search by hand: a bisection over the "
    "trainings of the sweep of nu, until one comes as near as the grey band (a section, or 2 % of the whole if more). "
    "The number beside a square says how many trainings that took; a hollow one never came so near. Dots are seeds. "
    "Latency: in turns with dense where that has been measured, else as the training found it at its start and end."
)
LABELS = {
    "sections": "removable sections",
    "macs": "multiply-adds (% of the whole)",
    "latency": "latency (% of the whole)",
}
BUDGET, HAND = "#D55E00", "#0072B2"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture and kind of budget; `data` as from prepare.budgets."""
    kinds = [kind if isinstance(kind, str) else "" for kind in data["kind"]]
    panels = list(dict.fromkeys(zip(data["arch"], kinds, strict=True)))
    panels = [panel for panel in panels if panel[1] or all(other[0] != panel[0] for other in panels if other[1])]
    if not panels:
        return style.empty_figure(heading, "no variants target-... of gated in this preset")
    figure, axes = style.grid(len(panels))
    for ax, (arch, kind) in zip(axes, panels, strict=True):
        ax.set_title(arch)
        if not kind:
            style.say_instead(ax, "not run")
            continue
        _panel(ax, data[(data["arch"] == arch) & (data["kind"] == kind)])
        ax.set(xlabel=f"{LABELS[kind]} asked for", ylabel=f"{LABELS[kind]} left")
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


def _handles() -> list:
    return [
        Line2D([], [], color=BUDGET, marker="o", linestyle="none", label="with the budget"),
        Line2D([], [], color=HAND, marker="s", linestyle="none", label="searched by hand"),
        Patch(color="#000000", alpha=0.1, label="near enough"),
    ]
