"""Accuracy against remaining multiply-adds, parameters and latency, over prices, their weights and budgets."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study, read_plain_latencies

TITLE = "Several objectives at once"
CAPTION = (
    "Each mark is one gated training (one seed) under some price, weighting of the price, or budget. The line is "
    "the front: no other network is better in one quantity and at least as good in the other. Latency only for "
    "networks whose latency was measured. Panels of one network share their scales."
)
NEEDS = "variants nu-..., cost-... or target-... of gated"
SHOWS = "left"
AIMS = {
    "nu-": "price nu",
    "cost-": "price by parameters or latency",
    "target-": "budget",
}
"""Beginning of a variant's name -> what was varied; the default belongs to the prices."""
OBJECTIVES = {"macs": "multiply-adds", "params": "parameters", "latency": "latency, one input"}
COLUMNS = ["arch", "objective", "aim", "variant", "seed", "left", "test_accuracy", "on_front"]


def prepare(study: Study) -> pd.DataFrame:
    """A row a network and objective: `left` in per cent of the dense network's, test accuracy in per cent, and whether
    no other network of the architecture is better in one and as good in the other. dense is one of them.

    An objective that was not measured has no rows, an architecture without a variant of AIMS none at all.
    """
    used = study.runs[statistics.counted(study.runs) & study.runs["method"].isin(["gated", "dense"])]
    used = used.assign(aim=[_aim(*named) for named in zip(used["method"], used["variant"], strict=True)])
    used = used[used["aim"] != ""]
    swept = set(used[used["variant"].str.startswith(tuple(AIMS))]["arch"])
    used = used[used["arch"].isin(swept)].reset_index(drop=True)
    used = used.assign(latency=_latencies(study, used))
    parts = [_objective(used, name) for name in OBJECTIVES]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _aim(method: str, variant: str) -> str:
    if method == "dense":
        return "dense" if variant == "default" else ""
    if variant == "default":
        return AIMS["nu-"]
    return next((aim for start, aim in AIMS.items() if variant.startswith(start)), "")


def _latencies(study: Study, runs: pd.DataFrame) -> pd.Series:
    """Milliseconds of one input; NaN for what was not measured."""
    keys = ["arch", "method", "variant", "seed", "macs"]
    times = read_plain_latencies(study.preset, study.dataset)
    times = times[times["batch"] == 1].astype({"macs": "float64", "seed": runs["seed"].dtype})
    return runs[keys].merge(times.drop_duplicates(keys), on=keys, how="left")["median_ms"]


def _objective(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    whole = runs[runs["aim"] == "dense"].groupby("arch")[name].mean()
    left = 100 * runs[name] / runs["arch"].map(whole)
    found = runs.assign(objective=name, left=left, test_accuracy=100 * runs["test_accuracy"]).dropna(subset="left")
    return found.assign(on_front=_on_front(found)) if len(found) else found


def _on_front(found: pd.DataFrame) -> list[bool]:
    flags = dict.fromkeys(found.index, True)
    for _, rows in found.groupby("arch"):
        points = list(zip(rows.index, rows["left"], rows["test_accuracy"], strict=True))
        for index, left, accuracy in points:
            flags[index] = not any(
                other_left <= left and other >= accuracy and (other_left < left or other > accuracy)
                for _, other_left, other in points
            )
    return list(flags.values())


# --- drawing --------------------------------------------------------------------------------------------------

LOOKS = {
    "dense": {"color": "#555555", "marker": "s"},
    AIMS["nu-"]: {"color": "#D55E00", "marker": "o"},
    AIMS["cost-"]: {"color": "#009E73", "marker": "^"},
    AIMS["target-"]: {"color": "#0072B2", "marker": "D"},
}


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A row of panels per architecture, a panel an objective that some of them have; `data` as from `prepare`."""
    archs = list(dict.fromkeys(data["arch"]))
    measured = {name: label for name, label in OBJECTIVES.items() if name in set(data["objective"])}
    figure, axes = style.grid(len(measured) * len(archs), columns=len(measured), size=(3.2, 2.9))
    for place, arch in enumerate(archs):
        rows = data[data["arch"] == arch]
        for column, (objective, label) in enumerate(measured.items()):
            ax = axes[len(measured) * place + column]
            ax.set_title(arch if column == 0 else "")
            _panel(ax, rows[rows["objective"] == objective], label)
            if len(ax.lines):
                ax.set_xlim(0, 1.05 * max(100.0, rows["left"].max()))
                style.accuracy_axis(ax, rows["test_accuracy"].min(), rows["test_accuracy"].max())
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
    ax.set(xlabel=f"{label} (% of dense)", ylabel="test accuracy (%)")


def _handles(data: pd.DataFrame) -> list[Line2D]:
    there = set(data["aim"])
    handles = [Line2D([], [], linestyle="none", label=aim, **look) for aim, look in LOOKS.items() if aim in there]
    return [*handles, Line2D([], [], color="#999999", linewidth=1.0, label="front")]
