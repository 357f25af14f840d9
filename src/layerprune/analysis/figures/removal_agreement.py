"""How far methods agree on which sections to remove: a matrix of rank correlations per architecture."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import stats

from layerprune.analysis import style
from layerprune.analysis.figures import survivors
from layerprune.analysis.frames import Study

TITLE = "Agreement of methods on which sections to remove"
CAPTION = (
    "Kendall's rank correlation tau-b between how often two methods remove each section, over their seeds: 1 if "
    "they rank the sections alike, −1 if in opposite order, 0 if the rankings are unrelated. Grey: undefined, "
    "because a method keeps all sections, removes all, or has no result. Controls, which replay another method's "
    "choice, are left out. With few sections, few values are possible; networks with fewer than three methods have no "
    "panel."
)
NEEDS = "three methods that remove sections of one network"
SHOWS = "tau"


FEWEST = 3
"""Of two methods there would be one number."""


def prepare(study: Study) -> pd.DataFrame:
    """Kendall's tau-b between the removal frequencies of every two methods of an architecture, both ways round.

    A method's frequency of a section is the share of its n seeds that removed it; the methods are those of
    `survivors.sections`. `tau` is NaN where it is undefined: a method removes every section equally often (none, all),
    or has no result (n = 0). Architectures with fewer than FEWEST such methods, or with none but undefined values, are
    left out.
    """
    groups = survivors.sections(study).groupby("arch", sort=False)
    found = [_pairs(arch, runs) for arch, runs in groups if runs["method"].nunique() >= FEWEST]
    rows = [row for pairs in found if any(_tells(row) for row in pairs) for row in pairs]
    return pd.DataFrame(rows, columns=["arch", "sections", "method", "other", "n", "tau"])


def _pairs(arch: str, runs: pd.DataFrame) -> list[dict]:
    known = runs.dropna(subset="keep").astype({"keep": float})
    removed = 1 - known.pivot_table(index="section", columns="method", values="keep", aggfunc="mean")
    seeds = known.groupby("method")["seed"].nunique()
    names = list(dict.fromkeys(runs["method"]))
    return [
        {"arch": arch, "sections": len(removed), "method": one, "other": other}
        | {"n": int(seeds.get(one, 0)), "tau": _tau(removed, one, other)}
        for one in names
        for other in names
    ]


def _tells(row: dict) -> bool:
    return row["method"] != row["other"] and not np.isnan(row["tau"])


def _tau(removed: pd.DataFrame, one: str, other: str) -> float:
    if not {one, other} <= set(removed) or removed[one].nunique() < 2 or removed[other].nunique() < 2:
        return float("nan")
    return float(stats.kendalltau(removed[one], removed[other], variant="b").statistic)


# --- drawing --------------------------------------------------------------------------------------------------

CELL, LETTER, ABOVE, LEAST = 0.31, 0.067, 0.35, 2.2
"""Inches: side of a cell, length of a letter of names at the left and below, room for a title, a panel's least side."""
HEADING, WIDEST = 0.65, 12.0
"""Inches: room for the heading; the width at which a new line of panels starts."""
BAR = 0.75
"""Inches for the bar of colours."""
BLANK, MAP = "#F2F2F2", "RdBu_r"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A square panel per architecture, placed line by line; `data` as from `prepare`."""
    archs = list(dict.fromkeys(data["arch"]))
    groups = {arch: data[data["arch"] == arch] for arch in archs}
    labels = 0.25 + LETTER * data["method"].str.len().max()
    places, width, height = _arrange({arch: _side(rows) for arch, rows in groups.items()}, labels)
    height += BAR
    figure = Figure(figsize=(width, height))
    for arch, (left, top, side) in places.items():
        ax = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
        _panel(ax, groups[arch], arch)
    bar = figure.add_axes((labels / width, 0.45 / height, 2.6 / width, 0.12 / height), label="<colorbar>")
    figure.colorbar(ScalarMappable(Normalize(-1, 1), MAP), bar, orientation="horizontal", label="Kendall's tau-b")
    figure.suptitle(heading, x=0.01, ha="left", y=1 - 0.08 / height, va="top")
    return figure


def _side(rows: pd.DataFrame) -> float:
    return max(CELL * rows["method"].nunique(), LEAST)


def _arrange(sides: dict[str, float], labels: float) -> tuple[dict[str, tuple[float, float, float]], float, float]:
    """Place squares left to right in lines: (left, top, side) each, and the figure's size; inches.

    `labels` is the room for names at the left of a square and below it.
    """
    places, left, top, line, widest = {}, labels, HEADING + ABOVE, 0.0, style.NARROWEST
    for arch, side in sides.items():
        if left > labels and left + side > WIDEST:
            left, top, line = labels, top + line + labels + ABOVE, 0.0
        places[arch] = (left, top, side)
        widest, line = max(widest, left + side + 0.2), max(line, side)
        left += side + labels + 0.1
    return places, widest, top + line + labels


def _panel(ax: Axes, rows: pd.DataFrame, arch: str) -> None:
    names = list(dict.fromkeys(rows["method"]))
    table = rows.pivot(index="method", columns="other", values="tau").loc[names, names].to_numpy(float)
    edges, below = np.arange(len(names) + 1), np.tri(len(names), dtype=bool)
    blank = below & ~np.isfinite(table)
    table = np.where(below, table, np.nan)  # it is symmetric
    for chosen, colors in ((blank, ListedColormap([BLANK])), (np.isfinite(table), MAP)):
        cells = [Rectangle((column, row), 1, 1) for row, column in np.argwhere(chosen)]
        drawn = PatchCollection(cells, cmap=colors, norm=Normalize(-1, 1), edgecolors="white", linewidth=0.6)
        drawn.set_array(table[chosen])
        ax.add_collection(drawn)
    for (row, column), tau in np.ndenumerate(table):
        if np.isfinite(tau):
            ax.text(column + 0.5, row + 0.5, _number(tau), ha="center", va="center", fontsize=6.5, color=_ink(tau))
    sections = rows["sections"].iloc[0]
    ax.set(xlim=(0, len(names)), ylim=(len(names), 0))
    ax.set(title=f"{arch} ({sections} sections)" if sections else f"{arch} (no run yet)")
    ax.set_xticks(edges[:-1] + 0.5, labels=names, rotation=90)
    ax.set_yticks(edges[:-1] + 0.5, labels=names)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _number(tau: float) -> str:
    """Two digits without a negative zero; exact ones short."""
    text = f"{tau:.2f}".replace("-", "−")
    return {"−0.00": "0.00", "1.00": "1", "−1.00": "−1"}.get(text, text)


def _ink(tau: float) -> str:
    """White on dark cells."""
    red, green, blue, _ = colormaps[MAP]((tau + 1) / 2)
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
