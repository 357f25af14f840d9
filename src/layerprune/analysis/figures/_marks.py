"""Accuracy against something: what stands out with intervals, curves, dense as a line, the rest grey, gaps counted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import family_of, standing_out

NAMES = ["arch", "method", "variant", "label"]
QUANTITIES = {"depth": 1, "test_accuracy": 100, "macs_ratio": 1, "train_macs_ratio": 1}
"""Quantity -> factor; accuracies are plotted in per cent."""
CURVES = {"nu": "nu", "keep": "keep", "longer": "length", "shorter": "length"}
LENGTHS = "trained for longer or shorter"


def prepare(study: Study) -> pd.DataFrame:
    """Means and 95 % intervals: default settings (curve `main`), gated's prices (`nu`), given depths (`keep`), other
    lengths of training (`length`, variants longer-... and shorter-...).

    The default of gated stands at its place in the curve of prices too. Other variants are left to the table. The
    methods that stand out in a panel have `stands_out`.
    """
    summary = statistics.summarise(study.runs)
    frame = summary[NAMES].assign(curve=summary["variant"].map(curve_of), nu=summary["nu_mean"])
    chosen = standing_out(study.runs)
    frame["stands_out"] = [method in chosen[arch] for arch, method in zip(frame["arch"], frame["method"], strict=True)]
    frame = frame.join(summary[["n", "n_failed", "n_missing"]])
    for name, factor in QUANTITIES.items():
        for part in ("mean", "low", "high"):
            frame[f"{name}_{part}"] = summary[f"{name}_{part}"] * factor
    return frame[frame["curve"] != "other"].reset_index(drop=True)


def prepare_one(study: Study, quantity: str) -> pd.DataFrame:
    """The same with the accuracy and one quantity."""
    frame = prepare(study)
    others = [name for name in QUANTITIES if name not in (quantity, "test_accuracy")]
    return frame.drop(columns=[f"{name}_{part}" for name in others for part in ("mean", "low", "high")])


def curve_of(variant: str) -> str:
    """Which curve a variant belongs to, by how its name begins: main, nu, keep, length, or other."""
    return "main" if variant == "default" else CURVES.get(variant.split("-")[0], "other")


# --- drawing --------------------------------------------------------------------------------------------------

MARK, LINE = 7.5, 2.5
"""Least distances in points: between marks at one height, and between vertical intervals that overlap."""
STRIP = 0.13
"""Fraction of a panel's height kept for the line on runs without a result."""
SPREAD_FOR_LOG = 4.0
ROOM_FOR_OTHERS = 0.5
"""By so much of the span of what stands out may grey marks lower the end of an axis of accuracies; those that lie below
it are triangles at the edge. Nothing is too good to be shown."""
BELOW = "below the panel"
TRIANGLE = {"color": style.OTHER, "marker": "v", "markersize": 5, "markeredgewidth": 0, "linestyle": "none"}


def draw(data: pd.DataFrame, heading: str, quantity: str, label: str, logarithmic: bool = False) -> Figure:
    """One panel per architecture with two marks or more, accuracy against `quantity`; `logarithmic` where values
    spread widely.

    Costs have one scale in all panels, accuracies one for networks that differ in their depth alone, if their ranges
    overlap.
    """
    archs = shown(data, quantity)
    figure, axes = style.grid(len(archs), 3, (3.7, 2.9))
    data = data[data["arch"].isin(archs)]
    for ax, arch in zip(axes, archs, strict=True):
        alike = data[data["arch"].map(family_of) == family_of(arch)]
        _panel(ax, data[data["arch"] == arch], alike, data, quantity, logarithmic)
        ax.set(title=arch, xlabel=label, ylabel="test accuracy (%)")
    below = any(line.get_label() == BELOW for ax in axes for line in ax.lines)
    style.legend(figure, _handles(data, below))
    style.title(figure, heading)
    return figure


def shown(data: pd.DataFrame, quantity: str) -> list[str]:
    """Architectures with two marks or more, or with runs that failed; all where none has so many."""
    marks = _present(data, quantity).groupby("arch").size()
    failed = set(data[data["n_failed"] > 0]["arch"])
    archs = list(dict.fromkeys(data["arch"]))
    return [arch for arch in archs if marks.get(arch, 0) > 1 or arch in failed] or archs


def _present(data: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return data[(data["n"] > 0) & data[f"{quantity}_mean"].notna()]


def _panel(
    ax: Axes, data: pd.DataFrame, alike: pd.DataFrame, everything: pd.DataFrame, quantity: str, logarithmic: bool
) -> None:
    present, gaps = _present(data, quantity), data[(data["n_failed"] + data["n_missing"]) > 0]
    if not present.empty:
        _limit_accuracy(ax, present, _present(alike, quantity), STRIP if len(gaps) else 0.0)
        _limit_quantity(ax, _present(data if quantity == "depth" else everything, quantity), quantity, logarithmic)
        _dense_line(ax, present)
        _others(ax, present[~present["stands_out"]], quantity)
        chosen = present[present["stands_out"]]
        _curves(ax, chosen, quantity)
        for row in chosen[chosen["curve"] == "length"].to_dict("records"):
            _mark(ax, row, quantity, offset=0.0, size=5, hollow=True)
        _means(ax, chosen[chosen["curve"] == "main"], quantity)
    elif gaps.empty:
        style.say_instead(ax, "nothing to compare: no counted run of dense")
    else:
        ax.set(xticks=[], yticks=[], ylim=(0, 1), xlim=(0, 1))
        ax.text(0.5, 0.5, "no results", transform=ax.transAxes, ha="center", color="#555555")
    _gaps(ax, gaps)


def _reach(data: pd.DataFrame, quantity: str) -> tuple[float, float]:
    """Lowest and highest of what is drawn: the means of all, the intervals of what stands out."""
    chosen = data[data["stands_out"]]
    values = [*data[f"{quantity}_mean"], *chosen[f"{quantity}_low"], *chosen[f"{quantity}_high"]]
    return float(np.nanmin(values)), float(np.nanmax(values))


def accuracy_range(data: pd.DataFrame) -> tuple[float, float]:
    """Lowest and highest accuracy within a panel: all of what stands out, and grey marks that are not far below it."""
    if not data["stands_out"].any():
        return _reach(data, "test_accuracy")
    low, high = _reach(data[data["stands_out"]], "test_accuracy")
    near = data["test_accuracy_mean"] >= low - ROOM_FOR_OTHERS * max(high - low, 0.2)
    return _reach(data[data["stands_out"] | near], "test_accuracy")


def _limit_accuracy(ax: Axes, data: pd.DataFrame, alike: pd.DataFrame, strip: float) -> None:
    ranges = [accuracy_range(rows) for _, rows in alike.groupby("arch")]
    apart = max(low for low, _ in ranges) > min(high for _, high in ranges)
    style.accuracy_axis(ax, *accuracy_range(data if apart else alike), strip)


def _limit_quantity(ax: Axes, data: pd.DataFrame, quantity: str, logarithmic: bool) -> None:
    low, high = _reach(data, quantity)
    if logarithmic and low > 0 and high / low > SPREAD_FOR_LOG:
        ax.set_xscale("log")
        ax.set_xlim(low / (high / low) ** 0.1, high * (high / low) ** 0.1)
        _ratio_ticks(ax)
    else:
        margin = max(0.08 * (high - low), 0.6 if quantity == "depth" else 0.02)
        ax.set_xlim(low - margin, high + margin)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=quantity == "depth", min_n_ticks=1))


def _ratio_ticks(ax: Axes) -> None:
    low, high = ax.get_xlim()
    steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20]
    ticks = [tick for tick in steps if low <= tick <= high]
    ax.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _dense_line(ax: Axes, data: pd.DataFrame) -> None:
    for row in data[(data["method"] == "dense") & (data["curve"] == "main")].to_dict("records"):
        ax.axhline(row["test_accuracy_mean"], color=style.color("dense"), linewidth=1, zorder=1)
        if np.isfinite(row["test_accuracy_low"]):
            ax.axhspan(row["test_accuracy_low"], row["test_accuracy_high"], color="#000000", alpha=0.1, linewidth=0)


def _others(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    """Light grey dots where methods that do not stand out are; their given depths joined by lines."""
    look = {"color": style.OTHER, "zorder": 1.5}
    for _, rows in data[data["curve"] == "keep"].groupby("method", sort=False):
        rows = rows.sort_values(f"{quantity}_mean")
        ax.plot(rows[f"{quantity}_mean"], rows["test_accuracy_mean"], linewidth=0.6, label="line of others", **look)
    ax.plot(
        data[f"{quantity}_mean"],
        data["test_accuracy_mean"],
        marker="o",
        markersize=4,
        markeredgewidth=0,
        linestyle="none",
        label="others",
        **look,
    )
    below = data[data["test_accuracy_mean"] < ax.get_ylim()[0]]
    if len(below):
        edge = {"transform": ax.get_xaxis_transform(), "label": BELOW, "zorder": 1.5} | TRIANGLE
        ax.plot(below[f"{quantity}_mean"], [0.02] * len(below), **edge)


def _curves(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    """The sweep of nu in the order of nu, through the default too; given depths in the order of depth."""
    for curve, order in (("nu", "nu"), ("keep", f"{quantity}_mean")):
        for method in sorted(set(data[data["curve"] == curve]["method"]), key=style.rank):
            with_default = [curve, "main"] if curve == "nu" else [curve]
            rows = data[(data["method"] == method) & data["curve"].isin(with_default)].sort_values(order)
            _curve(ax, rows, quantity, method, width=1.6 if curve == "nu" else 0.9)


def _curve(ax: Axes, rows: pd.DataFrame, quantity: str, method: str, width: float) -> None:
    look = {"color": style.color(method), "linewidth": width, "alpha": 0.8, "zorder": 2}
    ax.plot(rows[f"{quantity}_mean"], rows["test_accuracy_mean"], **look)
    for row in rows[rows["curve"] != "main"].to_dict("records"):
        _mark(ax, row, quantity, offset=0.0, size=3.6)


def _means(ax: Axes, data: pd.DataFrame, quantity: str) -> None:
    """The default settings' marks; gated comes first and so stays on its curve."""
    rows = sorted(data.to_dict("records"), key=lambda row: style.rank(row["method"]))
    places = [_place(ax, row, quantity) for row in rows]
    # Depths are whole and often equal; costs differ a little, and a large move would tell another order.
    offsets = fan(places, MARK if quantity == "depth" else LINE)
    _widen(ax, [place.x for place in places], offsets)
    for row, offset in zip(rows, offsets, strict=True):
        _mark(ax, row, quantity, offset, size=8 if row["method"] == "dense" else 6)


class Place(NamedTuple):
    """Where a mark stands, and from where to where its vertical interval reaches, in points."""

    x: float
    y: float
    low: float
    high: float

    def overlaps(self, other: "Place") -> bool:
        """Whether the intervals share a height."""
        return self.low <= other.high and other.low <= self.high


def _place(ax: Axes, row: dict, quantity: str) -> Place:
    """In points from the lower left corner of the figure; without an interval it is as high as the mark."""
    x, y = row[f"{quantity}_mean"], row["test_accuracy_mean"]
    ends = [end for end in (row["test_accuracy_low"], row["test_accuracy_high"]) if np.isfinite(end)]
    points = ax.transData.transform([(x, each) for each in (y, *ends)]) / ax.figure.dpi * 72
    middle, heights = float(points[0, 1]), points[:, 1]
    return Place(
        float(points[0, 0]), middle, min(middle - MARK / 2, heights.min()), max(middle + MARK / 2, heights.max())
    )


def fan(places: Sequence[Place], apart: float = MARK) -> list[float]:
    """The smallest sideways offsets, in points, that keep marks and intervals apart; earlier marks go first.

    Marks at one height come `apart` from each other, others LINE where their intervals would coincide.
    """
    settled: list[Place] = []
    for place in places:
        tries = (side * step * LINE for step in range(len(places) * 3) for side in (1, -1))
        moved = (place._replace(x=place.x + offset) for offset in tries)
        settled.append(next(each for each in moved if all(_are_apart(each, other, apart) for other in settled)))
    return [after.x - before.x for before, after in zip(places, settled, strict=True)]


def _are_apart(one: Place, other: Place, apart: float) -> bool:
    needed = apart if abs(one.y - other.y) < MARK else LINE if one.overlaps(other) else 0.0
    return abs(one.x - other.x) >= needed - 1e-6


def _widen(ax: Axes, places: list[float], offsets: list[float]) -> None:
    """Make room at the sides for marks that were fanned out over the edge."""
    left, width = ax.bbox.x0 / ax.figure.dpi * 72, ax.bbox.width / ax.figure.dpi * 72
    reach = [(place + offset - left) / width for place, offset in zip(places, offsets, strict=True)]
    ends = (min([0.0, *(low - 0.06 for low in reach)]), max([1.0, *(high + 0.06 for high in reach)]))
    if ends == (0.0, 1.0):
        return
    data = ax.transData.inverted().transform(ax.transAxes.transform([(end, 0.5) for end in ends]))
    ax.set_xlim(data[0, 0], data[1, 0])


def _mark(ax: Axes, row: dict, quantity: str, offset: float, size: float, hollow: bool = False) -> None:
    """A mark with its intervals; once moved sideways, without the interval sideways."""
    x, y, color = row[f"{quantity}_mean"], row["test_accuracy_mean"], style.color(row["method"])
    moved = style.moved_sideways(ax.transData, ax, offset)
    thin = {"color": color, "linewidth": 0.9, "transform": moved}
    ax.plot([x, x], [row["test_accuracy_low"], row["test_accuracy_high"]], **thin)
    if abs(offset) < 1:
        ax.plot([row[f"{quantity}_low"], row[f"{quantity}_high"]], [y, y], **thin)
    size += 2 * isinstance(style.marker(row["method"]), tuple)  # stars are thin
    look = {"color": color, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.4}
    look |= {"marker": style.marker(row["method"]), "linestyle": "none"}
    if hollow:
        look |= {"markerfacecolor": "white", "markeredgecolor": color, "markeredgewidth": 1.2}
    ax.plot([x], [y], zorder=4, transform=moved, label=row["label"], **look)


def _gaps(ax: Axes, gaps: pd.DataFrame) -> None:
    """One line at the bottom edge on the runs that have no result."""
    if gaps.empty:
        return
    edge = STRIP - 0.02
    ax.plot([0, 1], [edge, edge], color="#999999", linewidth=0.6, linestyle=":", transform=ax.transAxes)
    ax.text(0.5, 0.055, _told(gaps), transform=ax.transAxes, ha="center", fontsize=6, color="#555555")


def _told(gaps: pd.DataFrame) -> str:
    """How many runs failed or were not made, and of which methods if that fits."""
    methods = sorted(set(gaps["method"]), key=style.rank)
    of = " and ".join(methods) if len(methods) < 3 else f"{len(methods)} methods"
    counts = {"failed": gaps["n_failed"].sum(), "not run": gaps["n_missing"].sum()}
    return f"runs of {of}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _handles(data: pd.DataFrame, below: bool) -> list:
    chosen, handles = data[data["stands_out"]], []
    for method in sorted(set(chosen["method"]), key=style.rank):
        rows = chosen[chosen["method"] == method]
        look = {"color": style.color(method), "marker": style.marker(method), "markersize": 6}
        has_line = method == "dense" or rows["curve"].isin(["nu", "keep"]).any()
        line = "-" if has_line else "none"
        sizes = rows[(rows["curve"] == "main") & (rows["n"] > 0)]["n"]
        handles.append(Line2D([], [], linestyle=line, linewidth=1, label=style.with_seeds(method, sizes), **look))
    if chosen[chosen["method"] == "dense"]["test_accuracy_low"].notna().any():
        handles.append(Patch(color="#000000", alpha=0.1, linewidth=0, label="dense, 95 % interval"))
    if (chosen["curve"] == "nu").any():
        handles.append(Line2D([], [], color=style.color("gated"), linewidth=1.6, label="gated, sweep of nu"))
    if (chosen["curve"] == "keep").any():
        handles.append(Line2D([], [], color="#555555", linewidth=0.9, label="at given depths"))
    if (chosen["curve"] == "length").any():
        hollow = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.2}
        handles.append(Line2D([], [], color="#555555", linestyle="none", label=LENGTHS, **hollow))
    if not chosen.index.equals(data.index):
        handles.append(
            Line2D([], [], color=style.OTHER, marker="o", markersize=4, linewidth=0.6, label="other methods")
        )
    if below:
        handles.append(Line2D([], [], label=BELOW, **TRIANGLE))
    return handles
