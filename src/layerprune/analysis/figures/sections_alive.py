"""Sections alive over the epochs, and what the training has cost so far."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import frames, statistics, style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import standing_out
from layerprune.core import methods

TITLE = "Sections alive and training cost over epochs"
CAPTION = (
    "Top: remaining sections after each epoch. Bottom: multiply-adds of training so far, as a multiple of dense's "
    "whole training. Methods that cut when training has ended drop at the right edge, where a dot shows the remaining "
    "sections. Thick lines are means over seeds (n in the legend), thin ones single seeds; dense is dashed; of the "
    "methods that prune while they train, the most accurate is in colour, the others are grey."
)
NEEDS = "the curves of a method that trains from scratch and removes sections"
SHOWS = "sections_alive"


def prepare(study: Study) -> pd.DataFrame:
    """Sections alive and cumulative training MACs by epoch: every seed (kind `run`) and the mean (kind `mean`).

    Methods that train from scratch and removed a section somewhere, and dense. `train_macs_ratio` is relative
    to dense's whole training with the same seed (to dense's mean where that seed has none). A run whose sections go
    when training has ended has its last epoch twice, the second time with the remaining sections.
    """
    runs = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    chosen = runs[_trained_and_removing(runs)]
    columns = ["kind", "arch", "method", "stands_out", "seed", "n", "epoch", "sections_alive", "train_macs_ratio"]
    curves = frames.read_curves(chosen)
    if curves.empty:
        return pd.DataFrame(columns=columns)
    single = curves.assign(kind="run", n=None, stage=0, train_macs_ratio=_relative_cost(curves, runs))
    single = pd.concat([single, _cut_at_the_end(single, chosen)], ignore_index=True)
    both = pd.concat([single, _mean_courses(single)], ignore_index=True)
    best = standing_out(study.runs)
    both["stands_out"] = [method in best[arch] for arch, method in zip(both["arch"], both["method"], strict=True)]
    return both[columns]


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


def _cut_at_the_end(single: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The remaining sections of runs that are cut after the last epoch of the curves, at stage 1 of that epoch."""
    last = single.groupby(["arch", "method", "seed"], sort=False).tail(1)
    left = last.merge(runs[["arch", "method", "seed", "sections_left"]], on=["arch", "method", "seed"])
    late = (left["sections_left"] < left["sections_alive"]).groupby([left["arch"], left["method"]]).transform("any")
    left = left[late]
    return left.assign(sections_alive=left["sections_left"], stage=1).drop(columns="sections_left")


def _mean_courses(single: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the epochs that every seed has (a run cut short must not bend the mean)."""
    grouped = single.groupby(["arch", "method", "epoch", "stage"], sort=False)
    means = grouped[["sections_alive", "train_macs_ratio"]].mean().assign(n=grouped.size()).reset_index()
    most = means.groupby(["arch", "method"])["n"].transform("max")
    return means[means["n"] == most].assign(kind="mean", seed=None)


# --- drawing --------------------------------------------------------------------------------------------------

ROWS = {"sections_alive": "sections alive", "train_macs_ratio": "training MACs so far\n(multiples of dense)"}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A pair of panels per architecture; `data` as from `prepare`."""
    archs = list(dict.fromkeys(data["arch"]))
    columns = min(len(archs), 3)
    figure, axes = style.grid(2 * columns * -(-len(archs) // columns), columns, size=(3.2, 2.2))
    for place, arch in enumerate(archs):
        above = axes[place // columns * 2 * columns + place % columns]
        below = axes[(place // columns * 2 + 1) * columns + place % columns]
        for ax, (quantity, label) in zip((above, below), ROWS.items(), strict=True):
            _panel(ax, data[data["arch"] == arch], quantity)
            ax.set_ylabel(label if place % columns == 0 else "")
        above.set_title(arch)
        below.set_xlabel("epoch" if below.lines else "")
    for spare in axes:
        if not spare.lines and not spare.texts:
            spare.remove()
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    if data[quantity].isna().all():
        style.say_instead(ax, "no dense run to compare with")
        return
    for (kind, method, _), course in data.groupby(["kind", "method", "seed"], sort=False, dropna=False):
        if kind == "mean" or course["stands_out"].all():
            _course(ax, course, quantity, method, kind)
    ax.set_ylim(0, 1.05 * data[quantity].max())
    ax.margins(x=0.02)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if quantity == "sections_alive":
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _course(ax: Axes, course: pd.DataFrame, quantity: str, method: str, kind: str) -> None:
    """A line over the epochs; a dot ends the step of a method that cuts when training has ended."""
    stands_out = course["stands_out"].all()
    look = {"color": style.color(method) if stands_out else style.OTHER}
    look |= {"linewidth": 1.8, "zorder": 3} if kind == "mean" else {"linewidth": 0.6, "alpha": 0.5}
    look |= {"linewidth": 1.2, "zorder": 1.5} if not stands_out else {}
    look |= {"zorder": 4, "linestyle": "--"} if method == "dense" else {}  # dashes leave what lies below to be seen
    ax.plot(course["epoch"], course[quantity], **look)
    if quantity == "sections_alive" and kind == "mean" and course["epoch"].duplicated().any():
        end = {"marker": "o", "markersize": 4.5, "linestyle": "none", "clip_on": False}
        ax.plot(course["epoch"].iloc[-1:], course[quantity].iloc[-1:], **(look | end))


def _handles(data: pd.DataFrame) -> list[Line2D]:
    means = data[data["kind"] == "mean"]
    handles = []
    for method in sorted(set(means[means["stands_out"]]["method"]), key=style.rank):
        label = style.with_seeds(method, means[means["method"] == method]["n"])
        line = "--" if method == "dense" else "-"
        handles.append(Line2D([], [], color=style.color(method), linestyle=line, label=label))
    if not means["stands_out"].all():
        handles.append(Line2D([], [], color=style.OTHER, linewidth=1.2, label="other methods"))
    dot = {"marker": "o", "markersize": 4.5, "linestyle": "none", "color": "#555555"}
    if means.duplicated(["arch", "method", "epoch"]).any():
        handles.append(Line2D([], [], label="cut when training has ended", **dot))
    return [*handles, Line2D([], [], color="#555555", linewidth=0.6, label="single seeds")]
