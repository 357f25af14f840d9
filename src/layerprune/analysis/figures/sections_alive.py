"""Sections alive over the epochs, and what the training has cost so far."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import style
from layerprune.analysis.prepare.courses import sections_alive as prepare

__all__ = ["CAPTION", "TITLE", "draw", "prepare"]

TITLE = "Sections alive and training cost over epochs"
CAPTION = (
    "Above: sections alive after each epoch; below: multiply-adds of training so far, as a multiple of "
    "dense's whole training. Thick lines are means over seeds (n in the legend), thin ones single seeds; "
    "dense is dashed."
)
ROWS = {"sections_alive": "sections alive", "train_macs_ratio": "training MACs so far\n(multiples of dense)"}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A pair of panels per architecture; `data` as from prepare.courses.sections_alive."""
    archs = list(dict.fromkeys(data["arch"]))
    if not archs:
        return style.empty_figure(heading, "no training from scratch with curves")
    columns = min(len(archs), 3)
    figure, axes = style.grid(2 * columns * -(-len(archs) // columns), columns, size=(3.2, 2.2))
    for place, arch in enumerate(archs):
        above = axes[place // columns * 2 * columns + place % columns]
        below = axes[(place // columns * 2 + 1) * columns + place % columns]
        for ax, (quantity, label) in zip((above, below), ROWS.items(), strict=True):
            _panel(ax, data[data["arch"] == arch], quantity)
            ax.set_ylabel(label if place % columns == 0 else "")
        above.set_title(arch)
        below.set_xlabel("epoch")
    for spare in axes:
        if not spare.lines:
            spare.remove()
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    for (kind, method, _), course in data.groupby(["kind", "method", "seed"], sort=False, dropna=False):
        look = {"linewidth": 1.8, "zorder": 3} if kind == "mean" else {"linewidth": 0.6, "alpha": 0.5}
        line = "--" if method == "dense" else "-"
        if method == "dense":
            look["zorder"] = 4  # dashes that leave what lies below to be seen
        ax.plot(course["epoch"], course[quantity], color=style.color(method), linestyle=line, **look)
    if data[quantity].isna().all():
        style.say_instead(ax, "no dense run to compare with")
        return
    ax.set_ylim(bottom=0)
    ax.margins(x=0.02)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if quantity == "sections_alive":
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _handles(data: pd.DataFrame) -> list[Line2D]:
    means = data[data["kind"] == "mean"]
    handles = []
    for method in sorted(set(means["method"]), key=style.rank):
        sizes = means[means["method"] == method]["n"]
        n = f"{sizes.min():.0f}" if sizes.min() == sizes.max() else f"{sizes.min():.0f}–{sizes.max():.0f}"
        line = "--" if method == "dense" else "-"
        handles.append(Line2D([], [], color=style.color(method), linestyle=line, label=f"{method} (n = {n})"))
    return [*handles, Line2D([], [], color="#555555", linewidth=0.6, label="single seeds")]
