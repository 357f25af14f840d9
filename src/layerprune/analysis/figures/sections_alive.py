"""Sections alive over the epochs, and what the training has cost so far."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import frames, statistics, style
from layerprune.analysis.frames import Study
from layerprune.core import methods

TITLE = "Sections alive and training cost over epochs"
CAPTION = (
    "Top: remaining sections after each epoch. Bottom: multiply-adds of training so far, as a multiple of dense's "
    "whole training. Thick lines are means over seeds (n in the legend), thin ones single seeds; dense is dashed."
)


def prepare(study: Study) -> pd.DataFrame:
    """Sections alive and cumulative training MACs by epoch: every seed (kind `run`) and the mean (kind `mean`).

    Methods that train from scratch and removed a section somewhere, and dense. `train_macs_ratio` is relative
    to dense's whole training with the same seed (to dense's mean where that seed has none).
    """
    runs = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    chosen = runs[_trained_and_removing(runs)]
    columns = ["kind", "arch", "method", "seed", "n", "epoch", "sections_alive", "train_macs_ratio"]
    curves = frames.read_curves(chosen)
    if curves.empty:
        return pd.DataFrame(columns=columns)
    single = curves.assign(kind="run", n=None, train_macs_ratio=_relative_cost(curves, runs))
    return pd.concat([single[columns], _mean_courses(single)[columns]], ignore_index=True)


def _trained_and_removing(runs: pd.DataFrame) -> pd.Series:
    trained = runs["method"].map(methods.families()) == "trained"
    removing = runs[trained & (runs["sections_left"] < runs["sections_total"])]
    return runs["method"].isin({"dense", *removing["method"]})


def _relative_cost(curves: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    dense = runs[runs["method"] == "dense"]
    by_seed = dense.set_index(["arch", "seed"])["train_macs"].rename("whole")
    by_arch = dense.groupby("arch")["train_macs"].mean()
    whole = curves[["arch", "seed"]].join(by_seed, on=["arch", "seed"])["whole"]
    return curves["train_macs"] / whole.fillna(curves["arch"].map(by_arch))


def _mean_courses(single: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the epochs that every seed has (a run cut short must not bend the mean)."""
    grouped = single.groupby(["arch", "method", "epoch"], sort=False)
    means = grouped[["sections_alive", "train_macs_ratio"]].mean().assign(n=grouped.size()).reset_index()
    most = means.groupby(["arch", "method"])["n"].transform("max")
    return means[means["n"] == most].assign(kind="mean", seed=None)


# --- drawing --------------------------------------------------------------------------------------------------

ROWS = {"sections_alive": "sections alive", "train_macs_ratio": "training MACs so far\n(multiples of dense)"}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A pair of panels per architecture; `data` as from `prepare`."""
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
