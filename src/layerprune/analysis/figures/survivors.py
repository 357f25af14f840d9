"""Which sections survive: a cell per section and seed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from layerprune.analysis import statistics, style
from layerprune.analysis.frames import Study
from layerprune.analysis.selections import standing_out
from layerprune.core import methods

TITLE = "Which sections survive"
CAPTION = (
    "Sections kept (filled) and removed (pale), from the input (0) to the output; one row per seed, for gated "
    "training and the most accurate rival of each family. Rows of failed or missing runs are hatched. How often the "
    "other methods keep each section: `every-method`."
)
NEEDS = "a method that removes sections"
SHOWS = "keep"


def prepare(study: Study) -> pd.DataFrame:
    """One row per run and section: `keep` 1 (left) or 0 (gone); a run without a result has one row, `keep`
    blank.

    Default settings of gated and of the rivals that stand out.
    """
    chosen = standing_out(study.runs)
    rows = sections(study)
    shown = [method in chosen[arch] for arch, method in zip(rows["arch"], rows["method"], strict=True)]
    return rows[pd.Series(shown, index=rows.index, dtype=bool)].reset_index(drop=True)


def sections(study: Study) -> pd.DataFrame:
    """The same of every method that decides for itself: controls replay gated's choice and are left out, and so are
    methods that never removed a section."""
    rows = [row for run in _deciding(study.runs).to_dict("records") for row in _sections_of(run)]
    return pd.DataFrame(rows, columns=["arch", "method", "seed", "status", "section", "keep"])


def _deciding(runs: pd.DataFrame) -> pd.DataFrame:
    chosen = runs["method"].map(methods.families()).isin(["trained", "scores"]) & (runs["variant"] == "default")
    removed = chosen & statistics.counted(runs) & (runs["sections_left"] < runs["sections_total"])
    return runs[chosen & runs["method"].isin({*runs[removed]["method"], "gated"})]


def _sections_of(run: dict) -> list[dict]:
    names = {name: run[name] for name in ("arch", "method", "seed", "status")}
    if not statistics.counted(pd.DataFrame([run])).item():
        return [names | {"section": None, "keep": None}]
    return [names | {"section": place, "keep": keep} for place, keep in enumerate(run["keep"])]


# --- drawing --------------------------------------------------------------------------------------------------

CELL = 0.125
"""Height of a row in inches; columns are as wide, or wider if sections are few."""
LABELS, GAP, MARGIN, LEGEND, WIDEST = 1.25, 0.35, 0.85, 0.5, 11.5
"""Inches: room for method names, between panels, above, below; the width at which a new line starts."""
GONE = "#EDEDED"


def draw(data: pd.DataFrame, heading: str) -> Figure:
    """A panel per architecture that has run, placed line by line; `data` as from `prepare`."""
    networks = dict(list(data.groupby("arch", sort=False)))
    groups = {arch: rows for arch, rows in networks.items() if _sections(rows)} or networks
    places, width, height = _arrange({arch: _size(rows) for arch, rows in groups.items()})
    figure = Figure(figsize=(width, height))
    for arch, (left, top, wide, high) in places.items():
        ax = figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))
        _panel(ax, groups[arch], arch)
    figure.legend(handles=_handles(data), loc="lower left", ncols=3, bbox_to_anchor=(0.01, 0.0))
    figure.suptitle(heading, x=0.01, ha="left", y=1 - 0.08 / height, va="top")
    return figure


def _sections(rows: pd.DataFrame) -> int:
    """Sections of the architecture; 0 while no run of it has told."""
    return int(rows["section"].max()) + 1 if rows["section"].notna().any() else 0


def _size(rows: pd.DataFrame) -> tuple[float, float]:
    lines = len(rows[["method", "seed"]].drop_duplicates()) + 0.5 * rows["method"].nunique()
    return max(_sections(rows) * CELL, 0.9), lines * CELL


def _arrange(sizes: dict[str, tuple[float, float]]) -> tuple[dict[str, tuple[float, ...]], float, float]:
    """Place panels left to right in lines: (left, top, width, height) each, and the figure's size; inches."""
    places, left, top, line_height, widest = {}, LABELS, MARGIN, 0.0, 6.0
    for arch, (wide, high) in sizes.items():
        if left > LABELS and left + wide > WIDEST:
            left, top, line_height = LABELS, top + line_height + 0.85, 0.0
        places[arch] = (left, top, wide, high)
        widest = max(widest, left + wide + 0.2)
        left, line_height = left + wide + LABELS + GAP, max(line_height, high)
    return places, widest, top + line_height + 0.5 + LEGEND


def _panel(ax: Axes, rows: pd.DataFrame, arch: str) -> None:
    known = _sections(rows)
    sections = known or 1  # of a network no run has told about, one hatched cell a row
    top, names = 0.0, {}
    for method in dict.fromkeys(rows["method"]):
        runs = rows[rows["method"] == method].groupby("seed", sort=False)
        for number, (_, run) in enumerate(runs):
            _row(ax, run, method, top + number, sections)
        names[top + runs.ngroups / 2] = method
        top += runs.ngroups + 0.5
    ax.set(xlim=(0, sections), ylim=(top, 0), title=arch, xlabel="section" if known else "no run yet")
    ax.set_yticks(list(names), labels=list(names.values()))
    ticks = [place for place in range(known) if sections <= 6 or place % 5 == 0]
    ax.set_xticks([tick + 0.5 for tick in ticks], labels=[str(tick) for tick in ticks])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _row(ax: Axes, run: pd.DataFrame, method: str, top: float, sections: int) -> None:
    if run["keep"].isna().all():
        look = {"facecolor": "none", "edgecolor": style.color(method), "hatch": "////", "linewidth": 0.6}
        ax.add_patch(Rectangle((0, top + 0.1), sections, 0.8, **look))
        return
    ax.add_collection(_cells(run[run["keep"] == 0]["section"], top, GONE))
    ax.add_collection(_cells(run[run["keep"] == 1]["section"], top, style.color(method)))


def _cells(places: pd.Series, top: float, color: str) -> PathCollection:
    """Squares with white edges, as one shape."""
    corners = [Path.unit_rectangle().transformed(Affine2D().translate(place, top)) for place in sorted(places)]
    shapes = [Path.make_compound_path(*corners)] if corners else []
    return PathCollection(shapes, facecolors=color, edgecolors="white", linewidths=0.6)


def _handles(data: pd.DataFrame) -> list[Patch]:
    handles = [Patch(facecolor="#555555", label="kept"), Patch(facecolor=GONE, label="removed")]
    if data["keep"].isna().any():
        handles.append(Patch(facecolor="none", edgecolor="#555555", hatch="////", label="failed or not run"))
    return handles
