"""Sections alive over the epochs, and what the training has cost so far."""

from collections import Counter
from collections.abc import Iterator

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
    "Top: sections alive; each step is a removal. Bottom, on one scale: multiply-adds of training so far, as a "
    "multiple of dense's whole training; without a dense run, of the cost that gated's epochs before the first "
    "removal would add up to. Methods that prune after training drop at the right edge, where a dot shows the "
    "sections kept. Thick lines are means over seeds (n in the legend), thin lines single seeds; dense is dashed; of "
    "the methods that prune while they train, the most accurate is in colour, the others are grey."
)
NEEDS = "the curves of a method that trains from scratch and removes sections"
SHOWS = "sections_alive"


def prepare(study: Study) -> pd.DataFrame:
    """Sections alive and cumulative training MACs by epoch: every seed (kind `run`) and the mean (kind `mean`).

    Methods that train from scratch and removed a section somewhere, and dense beside them. A row has `sections_alive`,
    at the start, before and after each removal, and at the end; or `train_macs_ratio`, at every row of the curves,
    relative to dense's whole training with the same seed (to dense's mean where that seed has none).
    """
    runs = study.runs[(study.runs["variant"] == "default") & statistics.counted(study.runs)]
    chosen = _beside_others(runs[_trained_and_removing(runs)])
    columns = ["kind", "arch", "method", "stands_out", "seed", "n", "epoch", "sections_alive", "train_macs_ratio"]
    if chosen.empty:
        return pd.DataFrame(columns=columns)
    both = pd.concat([_sections(chosen), _costs(chosen, runs)], ignore_index=True)
    best = standing_out(study.runs)
    both["stands_out"] = [method in best[arch] for arch, method in zip(both["arch"], both["method"], strict=True)]
    return both.reindex(columns=columns)


def _trained_and_removing(runs: pd.DataFrame) -> pd.Series:
    trained = runs["method"].map(methods.families()) == "trained"
    removing = runs[trained & (runs["sections_left"] < runs["sections_total"])]
    return runs["method"].isin({"dense", *removing["method"]})


def _beside_others(runs: pd.DataFrame) -> pd.DataFrame:
    """Without networks of which dense alone has run."""
    return runs[runs["arch"].isin(runs[runs["method"] != "dense"]["arch"])]


def _sections(chosen: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (arch, method), group in chosen.groupby(["arch", "method"], sort=False):
        runs = group.to_dict("records")
        names = {"arch": arch, "method": method}
        for run in runs:
            rows += [names | {"kind": "run", "seed": run["seed"]} | point for point in _corners([run])]
        rows += [names | {"kind": "mean", "n": len(runs)} | point for point in _corners(runs)]
    return pd.DataFrame(rows)


def _corners(runs: list[dict]) -> Iterator[dict[str, float]]:
    """The mean number of sections of these runs as a line with steps."""
    end = max(run["epochs"] for run in runs)
    removals = Counter(
        step * run["epochs"] / run["steps_total"] for run in runs for step in run["removed_step"] if step is not None
    )
    alive = sum(run["sections_total"] for run in runs) - removals.pop(0.0, 0)
    yield {"epoch": 0.0, "sections_alive": alive / len(runs)}
    last = 0.0
    for last, gone in sorted(removals.items()):
        yield {"epoch": last, "sections_alive": alive / len(runs)}
        alive -= gone
        yield {"epoch": last, "sections_alive": alive / len(runs)}
    if last < end:
        yield {"epoch": end, "sections_alive": alive / len(runs)}


def _costs(chosen: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    curves = frames.read_curves(chosen)
    if curves.empty:
        return pd.DataFrame()
    single = curves[["arch", "method", "seed", "epoch"]].assign(
        kind="run", train_macs_ratio=curves["train_macs"] / _whole_cost(curves, runs)
    )
    return pd.concat([single, _mean_costs(single)], ignore_index=True)


def _whole_cost(curves: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    dense = runs[runs["method"] == "dense"]
    by_seed = dense.set_index(["arch", "seed"])["train_macs"].rename("whole")
    by_arch = _without_removal(curves, runs) | dense.groupby("arch")["train_macs"].mean().to_dict()
    whole = curves[["arch", "seed"]].join(by_seed, on=["arch", "seed"])["whole"]
    return whole.fillna(curves["arch"].map(by_arch))


def _without_removal(curves: pd.DataFrame, runs: pd.DataFrame) -> dict[str, float]:
    """By architecture what gated's training would cost with every section: by the epochs in which it has them all."""
    gated = curves[(curves["method"] == "gated") & (curves["epoch"] > 0)]
    gated = gated.merge(runs[["arch", "method", "seed", "epochs", "sections_total"]], on=["arch", "method", "seed"])
    gated = gated[gated["sections_alive"] == gated["sections_total"]]
    whole = gated["train_macs"] / gated["epoch"] * gated["epochs"]
    return whole.groupby(gated["arch"]).mean().to_dict()


def _mean_costs(single: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the epochs that every seed has (a run cut short must not bend the mean)."""
    grouped = single.groupby(["arch", "method", "epoch"], sort=False)
    means = grouped[["train_macs_ratio"]].mean().assign(n=grouped.size()).reset_index()
    most = means.groupby(["arch", "method"])["n"].transform("max")
    return means[means["n"] == most].assign(kind="mean")


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
            shared = data if quantity == "train_macs_ratio" else data[data["arch"] == arch]
            _panel(ax, data[data["arch"] == arch], quantity, top=shared[quantity].max())
            ax.set_ylabel(label if place % columns == 0 else "")
        above.set_title(arch)
        below.set_xlabel("epoch" if below.lines else "")
    for spare in axes:
        if not spare.lines and not spare.texts:
            spare.remove()
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, data: pd.DataFrame, quantity: str, top: float) -> None:
    if data[quantity].isna().all():
        style.say_instead(ax, "no dense run to compare with")
        return
    for (kind, method, _), course in data.dropna(subset=quantity).groupby(
        ["kind", "method", "seed"], sort=False, dropna=False
    ):
        if kind == "mean" or course["stands_out"].all():
            _course(ax, course, quantity, method, kind)
    ax.set_ylim(0, 1.05 * top)
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
    if quantity == "sections_alive" and kind == "mean" and _ends_with_a_cut(course):
        end = {"marker": "o", "markersize": 4.5, "linestyle": "none", "clip_on": False}
        ax.plot(course["epoch"].iloc[-1:], course[quantity].iloc[-1:], **(look | end))


def _ends_with_a_cut(course: pd.DataFrame) -> bool:
    return len(course) > 1 and course["epoch"].iloc[-1] == course["epoch"].iloc[-2]


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
    courses = means.dropna(subset="sections_alive").groupby(["arch", "method"])
    if any(_ends_with_a_cut(course) for _, course in courses):
        handles.append(Line2D([], [], label="cut when training has ended", **dot))
    if (means["n"] > 1).any():
        handles.append(Line2D([], [], color="#555555", linewidth=0.6, label="single seeds"))
    return handles
