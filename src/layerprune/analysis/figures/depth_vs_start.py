"""Final depth and accuracy against the number of sections at the start (claim C6)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import RIVALS, families

TITLE = "Final depth against starting depth"
CAPTION = (
    "Left: sections kept against removable sections at the start, for networks of one family under one price: gated "
    "training, and the rivals that choose a depth themselves, the most accurate in colour. On the dashed line nothing "
    "is removed. Right: test accuracy, with dense where it was trained. Dots are seeds; larger marks are means with "
    "95 % bootstrap intervals; the legend gives the number of seeds. Marks are shifted sideways a little."
)
NEEDS = "two networks of one family, such as mlp-residual-20 and mlp-residual-40, under one price"
SHOWS = "sections_left"
COLUMNS = ["kind", "family", "arch", "method", "stands_out", "start", "seed", "status", "sections_left", "n"]


def applies(study: Study) -> bool:
    """Whether there is such a family."""
    return any(True for _ in families(study.runs))


def prepare(study: Study) -> pd.DataFrame:
    """gated, dense and the rivals that start at two depths or more, on every family of gated's: a row a run (kind
    `run`) and a row a mean (kind `mean`).

    `start` is the number of removable sections at the start; accuracies in per cent; a run without a result has none.
    """
    chosen = study.runs[study.runs["method"].isin(["gated", "dense", *RIVALS]) & (study.runs["variant"] == "default")]
    parts = [_of_family(chosen, family, members) for family, members in families(study.runs)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _of_family(runs: pd.DataFrame, family: str, members: dict[str, float]) -> pd.DataFrame:
    runs = runs[runs["arch"].isin(members)]
    starts = runs.groupby("method")["arch"].transform("nunique")
    runs = runs[(starts > 1) | ~runs["method"].isin(RIVALS)]
    begun = (runs["status"] != "missing").groupby(runs["method"]).transform("any")
    runs = runs[begun | ~runs["method"].isin(RIVALS)]
    runs = runs.assign(start=runs["arch"].map(members))
    both = pd.concat([_single(runs), _means(runs, members)], ignore_index=True)
    both["stands_out"] = both["method"].isin(["dense", "gated", _best_rival(both)])
    return both.assign(family=family).sort_values(["kind", "start", "method", "seed"], ignore_index=True)


def _best_rival(both: pd.DataFrame) -> str | None:
    """The rival that is most accurate over the starting depths."""
    rivals = both[(both["kind"] == "mean") & both["method"].isin(RIVALS)].dropna(subset="test_accuracy")
    return rivals.groupby("method")["test_accuracy"].mean().idxmax() if len(rivals) else None


def _single(runs: pd.DataFrame) -> pd.DataFrame:
    counts = statistics.counted(runs)
    frame = runs[["arch", "method", "start", "seed", "status"]].assign(kind="run")
    frame["sections_left"] = runs["sections_left"].where(counts)
    frame["test_accuracy"] = 100 * runs["test_accuracy"].where(counts)
    return frame


def _means(runs: pd.DataFrame, members: dict[str, float]) -> pd.DataFrame:
    summary = statistics.summarise(runs)
    frame = summary[["arch", "method", "n", "n_failed", "n_missing"]].assign(kind="mean")
    frame["start"] = summary["arch"].map(members)
    for name, factor in {"sections_left": 1, "test_accuracy": 100}.items():
        frame[name] = factor * summary[f"{name}_mean"]
        frame[f"{name}_low"] = factor * summary[f"{name}_low"]
        frame[f"{name}_high"] = factor * summary[f"{name}_high"]
    return frame


# --- drawing --------------------------------------------------------------------------------------------------

LABELS = {"sections_left": "sections kept", "test_accuracy": "test accuracy (%)"}
STEP = 5.0
"""Sideways distance in points between methods."""
HOLLOW = 4.0
"""Size in points of a hollow circle: less than STEP, so that none covers another."""


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """Two panels a family; `data` as from `prepare`."""
    groups = list(data.groupby("family", sort=False))
    figure, axes = style.grid(2 * len(groups), columns=2, size=(3.9, 3.4))
    for place, (family, rows) in enumerate(groups):
        for column, (quantity, label) in enumerate(LABELS.items()):
            ax = axes[2 * place + column]
            _panel(ax, rows[rows["method"] != "dense"] if quantity == "sections_left" else rows, quantity)
            ax.set(xlabel="removable sections at the start", ylabel=label)
            ax.set_title(family if column == 0 else "")
    style.legend(figure, _handles(data))
    style.title(figure, heading)
    return figure


def _panel(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    starts = sorted(set(data["start"]))
    ax.set_xlim(0, starts[-1] * 1.08)
    ax.set_xticks(starts, labels=[f"{start:.0f}" for start in starts])
    gaps = data[(data["kind"] == "mean") & (data["n_failed"] + data["n_missing"] > 0)]
    if quantity == "sections_left":
        ax.set_ylim(-0.14 * starts[-1] if len(gaps) else 0, starts[-1] * 1.08)
        ax.plot([0, starts[-1]], [0, starts[-1]], color="#555555", linestyle="--", linewidth=0.9)
        ax.set_yticks(starts if starts[0] == 0 else [0, *starts])
    elif data[quantity].notna().any():
        seen = data[[quantity, f"{quantity}_low", f"{quantity}_high"]].to_numpy(float)
        style.accuracy_axis(ax, float(np.nanmin(seen)), float(np.nanmax(seen)), 0.12 if len(gaps) else 0.0)
    shifts = _shifts(data)
    for method, rows in data.groupby("method"):
        _method(ax, rows, quantity, method, shifts[method])
    if data[quantity].isna().all():
        ax.set_yticks([])
    _gaps(ax, gaps, {method: _color(data, method) for method in shifts}, shifts)


def _methods(data: pd.DataFrame) -> list[str]:
    return sorted(set(data["method"]), key=style.rank)


def _shifts(data: pd.DataFrame) -> dict[str, float]:
    """Points to the side for each method, around 0."""
    methods = _methods(data)
    return {method: STEP * (place - (len(methods) - 1) / 2) for place, method in enumerate(methods)}


def _method(ax: Axes, rows: pd.DataFrame, quantity: str, method: str, shift: float) -> None:
    runs, means = (
        rows[rows["kind"] == "run"],
        rows[(rows["kind"] == "mean") & (rows["n"] > 0)].sort_values("start"),
    )
    look = {"color": _color(rows, method), "transform": style.moved_sideways(ax.transData, ax, shift)}
    ax.plot(runs["start"], runs[quantity], marker=".", alpha=0.5, linestyle="none", **look)
    ax.plot(means["start"], means[quantity], marker=style.marker(method), markersize=6, linewidth=1, **look)
    for row in means.to_dict("records"):
        low, high = row[f"{quantity}_low"], row[f"{quantity}_high"]
        ax.plot([row["start"]] * 2, [low, high], linewidth=1, **look)


def _color(data: pd.DataFrame, method: str) -> str:
    """Grey for a method that does not stand out."""
    return style.color(method) if data[data["method"] == method]["stands_out"].any() else style.OTHER


def _gaps(ax: Axes, gaps: pd.DataFrame, colors: dict[str, str], shifts: dict[str, float]) -> None:
    """Hollow circles at the bottom edge where runs failed or are missing."""
    for row in gaps.to_dict("records"):
        method = row["method"]
        moved = style.moved_sideways(ax.get_xaxis_transform(), ax, shifts[method])
        where = {"transform": moved, "clip_on": False, "linestyle": "none"}
        look = {"marker": "o", "markersize": HOLLOW, "mfc": "none", "mec": colors[method]}
        ax.plot([row["start"]], [0.045], **look, **where)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    handles = []
    for method in _methods(data):
        look = {"color": _color(data, method), "marker": style.marker(method), "linewidth": 1}
        sizes = data[(data["method"] == method) & (data["n"] > 0)]["n"]
        handles.append(Line2D([], [], label=style.with_seeds(method, sizes), **look))
    if (data["n"] > 1).any():
        handles.append(Line2D([], [], marker=".", color="#555555", linestyle="none", label="single seeds"))
    handles.append(Line2D([], [], color="#555555", linestyle="--", linewidth=0.9, label="nothing removed"))
    if (data["n_failed"].fillna(0) + data["n_missing"].fillna(0)).any():
        handles.append(style.gap_handle())
    return handles
