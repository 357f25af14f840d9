"""The one look of every figure: colour and marker of a method, sizes, axes. Nothing here knows a figure.

A method that stands out has the same colour and marker everywhere, and both are unique to it, so that neither alone
carries the meaning; whatever does not stand out is light grey. The first twelve colours are Okabe and Ito's and Tol's,
told apart by colour-blind readers; no palette does that for all of them: the others are as far apart as they can be,
and their markers are matplotlib's polygons and stars (corners, 1 for a star, angle). Rendering is deterministic: no
date, a fixed salt for ids, text as text.
"""

import colorsys
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, Transform

Marker = str | tuple[int, int, int]
LOOKS: dict[str, tuple[str, Marker]] = {
    "dense": ("#000000", "*"),
    "gated": ("#D55E00", "o"),
    "hard-concrete": ("#009E73", "s"),
    "sss": ("#0072B2", "^"),
    "stochastic-depth": ("#56B4E9", "v"),
    "leave-one-out": ("#8B5A2B", "D"),
    "magnitude": ("#E69F00", "P"),
    "random": ("#8C8C8C", "X"),
    "taylor": ("#CC79A7", "h"),
    "by-index": ("#999933", "<"),
    "scratch-b": ("#882255", ">"),
    "scratch-e": ("#332288", "p"),
    "epsilon-resnet": ("#29D5D8", (4, 1, 0)),
    "gal": ("#1269FC", (5, 1, 36)),
    "feature-taylor": ("#A22399", (3, 1, 0)),
    "gate-taylor": ("#F70E93", (3, 1, 60)),
    "bn-scale": ("#AFC910", (4, 1, 45)),
    "imprinting": ("#CB4847", (6, 1, 0)),
    "linear-probes": ("#03D108", (7, 1, 0)),
    "dbp": ("#0E8302", (8, 1, 0)),
    "cka": ("#3B254E", (9, 1, 0)),
    "energy": ("#EE44F0", (10, 1, 0)),
    "modularity": ("#345025", (12, 1, 0)),
    "sr-init": ("#FD090D", (3, 1, 30)),
    "uniform-thinning": ("#0102EB", (3, 0, 30)),
    "last-k": ("#D4AE83", (3, 0, 90)),
    "scratch-random": ("#8F78D6", (4, 0, 22)),
    "shallower": ("#185260", (5, 0, 36)),
    "lacoot": ("#7800FC", (5, 0, 18)),
    "block-influence": ("#54FC60", (6, 0, 15)),
    "easier": ("#6C0000", (7, 0, 0)),
    "tlc": ("#E4B4FC", (7, 0, 25)),
    "consensus": ("#60FC00", (9, 0, 0)),
    "first-k": ("#90F0A8", (3, 1, 90)),
}
OTHER = "#BBBBBB"
"""The light grey of methods that do not stand out."""
SPARE_MARKERS = ("d", "H", "8", (10, 0, 0), (11, 1, 0), (4, 1, 20))
NARROWEST = 6.8
"""Width in inches at which the longest heading still fits."""
ENTRY, LINE, FRAME = 1.75, 0.165, 0.15
"""Inches: width of a legend's entry, height of its lines, and what lies around them."""

_PARAMETERS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "layerprune",
    "svg.fonttype": "none",
    "path.simplify": True,
}


@contextmanager
def applied() -> Iterator[None]:
    """matplotlib's settings of every figure, for drawing and for saving."""
    with mpl.rc_context(_PARAMETERS):
        yield


def color(method: str) -> str:
    """The method's colour; a method without one of its own gets one from its name."""
    return LOOKS[method][0] if method in LOOKS else _spare_color(method)


def marker(method: str) -> Marker:
    """The method's marker; a method without one of its own gets one from its name."""
    return LOOKS[method][1] if method in LOOKS else SPARE_MARKERS[_number(method) % len(SPARE_MARKERS)]


def _spare_color(method: str) -> str:
    channels = colorsys.hls_to_rgb((_number(method) % 360) / 360, 0.42, 0.55)
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in channels)


def _number(method: str) -> int:
    return int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")


def rank(method: str) -> tuple[int, str]:
    """Order of drawing and legends: as in LOOKS, then by name."""
    order = list(LOOKS)
    return (order.index(method) if method in LOOKS else len(order), method)


def grid(count: int, columns: int = 3, size: tuple[float, float] = (3.4, 2.9)) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, `size` inches each or wider, with constrained layout; `legend` makes its room."""
    columns = min(columns, max(count, 1))
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(max(columns * size[0] + 0.2, NARROWEST), rows * size[1] + 0.8), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[max(count, 1) :]:
        spare.remove()
    return figure, axes[: max(count, 1)]


def title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left")


def say_instead(ax: Axes, reason: str) -> None:
    """A panel that says why it is empty."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.text(0.5, 0.5, reason, ha="center", va="center", transform=ax.transAxes, color="#555555")


def legend(figure: Figure, handles: list) -> None:
    """A legend below the panels in as many columns as fit; the figure grows by its height."""
    if not handles:
        return
    width, height = figure.get_size_inches()
    columns = min(len(handles), int(width / ENTRY))
    figure.set_size_inches(width, height + LINE * -(-len(handles) // columns) + FRAME)
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)


def with_seeds(name: str, sizes: Iterable[float]) -> str:
    """A legend's entry that tells the number of seeds, or from what to what it goes."""
    sizes = sorted({int(size) for size in sizes})
    return f"{name} (n = {'–'.join(str(size) for size in dict.fromkeys([sizes[0], sizes[-1]]))})" if sizes else name


def gap_handle() -> Line2D:
    """The legend's entry for hollow marks."""
    look = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "#555555", "linestyle": "none"}
    return Line2D([], [], label="hollow: failed or not run", **look)


def moved_sideways(base: Transform, ax: Axes, points: float) -> Transform:
    """Coordinates `base` of these axes, moved to the right by so many points."""
    return base + ScaledTranslation(points / 72, 0, ax.figure.dpi_scale_trans)


def accuracy_axis(ax: Axes, lowest: float, highest: float, room_below: float = 0.0) -> None:
    """Limits and scale of a y axis in per cent; `room_below` keeps that fraction of the axis free of data.

    Linear while errors differ little; where they differ more than fourfold, proportional to the logarithm of
    the error, so that neither good nor bad results are pressed together.
    """
    logarithmic = _error(lowest) / _error(highest) > 4
    if logarithmic:
        ax.set_yscale("function", functions=(_to_log_error, _from_log_error))
    to, back = (_to_log_error, _from_log_error) if logarithmic else (np.asarray, np.asarray)
    low, high = float(to(lowest)), float(to(highest))
    spread = max(high - low, 0.02 if logarithmic else 0.2)
    bottom = low - spread * (0.08 + room_below / (1 - room_below) * 1.2)
    top = high + spread * 0.12
    ax.set_ylim(float(back(bottom)), float(back(top)))
    if logarithmic:
        _log_error_ticks(ax)


def _error(accuracy: float) -> float:
    return max(100 - accuracy, 0.02)


def _to_log_error(accuracy: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(100 - np.asarray(accuracy, float), 0.02))


def _from_log_error(value: np.ndarray) -> np.ndarray:
    return 100 - 10.0 ** -np.asarray(value, float)


def _log_error_ticks(ax: Axes) -> None:
    low, high = ax.get_ylim()
    candidates = [100 - error for error in (90, 70, 50, 30, 20, 10, 7, 5, 3, 2, 1.5, 1, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)]
    ticks = [tick for tick in candidates if low <= tick <= high]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
