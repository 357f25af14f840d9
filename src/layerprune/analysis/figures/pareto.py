"""Accuracy against what is left of multiply-adds, parameters and latency, over prices, their weights and budgets."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import style
from layerprune.analysis.prepare.pareto import AIMS, OBJECTIVES
from layerprune.analysis.prepare.pareto import pareto as prepare

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "Several objectives at once"
CAPTION = (
    "Each mark is one gated training (one seed) under some price, weights of the price or budget. The line is the "
    "front: no other network is better in one of both and as good in the other. Latency where it has been measured."
)
LOOKS = {
    "dense": {"color": "#555555", "marker": "s"},
    AIMS["nu-"]: {"color": "#D55E00", "marker": "o"},
    AIMS["cost-"]: {"color": "#009E73", "marker": "^"},
    AIMS["target-"]: {"color": "#0072B2", "marker": "D"},
}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture, a panel an objective; `data` as from prepare.pareto."""
    archs = list(dict.fromkeys(data["arch"]))
    if not archs:
        return style.empty_figure(heading, "no variants nu-..., cost-... or target-... of gated in this preset")
    figure, axes = style.grid(len(OBJECTIVES) * len(archs), columns=len(OBJECTIVES), size=(3.2, 2.9))
    for place, arch in enumerate(archs):
        rows = data[data["arch"] == arch]
        for column, (objective, label) in enumerate(OBJECTIVES.items()):
            ax = axes[len(OBJECTIVES) * place + column]
            ax.set_title(arch if column == 0 else "")
            _panel(ax, rows[rows["objective"] == objective], label)
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, label: str) -> None:
    if rows.empty:
        style.say_instead(ax, f"{label}: not measured")
        return
    front = rows[rows["on_front"]].sort_values(["left", "test_accuracy"])
    ax.step(front["left"], front["test_accuracy"], where="post", color="#999999", linewidth=1.0, zorder=1)
    for aim, look in LOOKS.items():
        chosen = rows[rows["aim"] == aim]
        ax.plot(chosen["left"], chosen["test_accuracy"], linestyle="none", markersize=4.5, alpha=0.8, **look)
    ax.set(xlabel=f"{label} (% of dense's)", ylabel="test accuracy (%)")
    ax.set_xlim(0, 1.05 * max(100.0, rows["left"].max()))
    style.accuracy_axis(ax, rows["test_accuracy"].min(), rows["test_accuracy"].max())


def _handles(data: pd.DataFrame) -> list[Line2D]:
    there = set(data["aim"])
    handles = [Line2D([], [], linestyle="none", label=aim, **look) for aim, look in LOOKS.items() if aim in there]
    return [*handles, Line2D([], [], color="#999999", linewidth=1.0, label="front")]
