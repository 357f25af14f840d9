"""Tables and figures of one dataset from its records: a figure as SVG, with a CSV of what is plotted.

A figure that has nothing to show is not drawn; the folder's README.md says which there are, and what the others need.
Figures that README.md or a page of docs/ links as PNG are drawn as such too, see `shown_as_png`.
"""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from layerprune.analysis import figure_index, style, svg, tables
from layerprune.analysis.figures import FIGURES, is_empty
from layerprune.analysis.frames import Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.system import files, paths

_METADATA = {"Date": None, "Creator": None}
"""Without a date and the library's version the same records give the same bytes."""
_DIGITS = 5
"""Significant digits of plotted values that are no whole numbers: more than an eye can tell."""
_SHOWN = re.compile(r"figures/([^/\s]+)/([^/\s]+)/([\w.-]+)\.png")


def build_tables(preset_name: str, dataset: str, partial: bool = False) -> list[Path]:
    """Write every table. Raises LayerpruneError if no run is planned and, without `partial`, naming the first missing
    runs."""
    return tables.write(_study(preset_name, dataset, partial))


def build_figures(preset_name: str, dataset: str, names: list[str] | None = None, partial: bool = False) -> list[Path]:
    """Write the named figures, or all and an index of them. Without `partial`, refuses gaps as build_tables does.

    Figures of these names that were drawn before and have nothing to show now are deleted.
    """
    chosen = list(FIGURES) if names is None else names
    for name in chosen:
        if name not in FIGURES:
            raise LayerpruneError(f"figure '{name}' is unknown (known: {', '.join(FIGURES)})")
    study = _study(preset_name, dataset, partial)
    written = {name: _build_figure(study, name) for name in chosen}
    index = [figure_index.write(study, written)] if names is None else []
    return [*(path for pictures in written.values() for path in pictures), *index]


def _study(preset_name: str, dataset: str, partial: bool) -> Study:
    """A study with runs. Raises LayerpruneError if none is planned, or experiments alone."""
    study = read_study(preset_name, dataset, partial)
    if study.runs.empty:
        where = f"{paths.preset_file(preset_name)}: datasets.{dataset}"
        if study.experiments:
            raise LayerpruneError(f"{where}: experiments alone are planned: there is nothing to tabulate or to draw")
        raise LayerpruneError(f"{where}: {config.NO_RUNS}")
    return study


def _build_figure(study: Study, name: str) -> list[Path]:
    module = FIGURES[name]
    data = module.prepare(study)
    written = [
        path for end, rows in _pictures(name, data) for path in _build_picture(study, module, f"{name}{end}", rows)
    ]
    for path in paths.figure(study.preset, study.dataset, name, "svg").parent.glob(f"{name}.*"):
        if path not in written:
            path.unlink()
    return written


def _pictures(name: str, data: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """What is drawn of a frame: end of the picture's name and its rows."""
    by = getattr(FIGURES[name], "PICTURE_PER", None)
    groups = [("", data)] if by is None else [(f".{value}", rows) for value, rows in data.groupby(by, sort=False)]
    return [(end, rows) for end, rows in groups if not is_empty(name, rows)]


def _build_picture(study: Study, module: ModuleType, name: str, data: pd.DataFrame) -> list[Path]:
    vector, png, table = (paths.figure(study.preset, study.dataset, name, suffix) for suffix in ("svg", "png", "csv"))
    shown = png in shown_as_png()
    with style.applied():
        figure = module.draw(data, heading(study, module.TITLE, data))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout stands: do not work it out again for each format
        files.write_text(vector, _as_svg(figure))
        if shown:
            files.write_atomically(png, lambda stream: _save_png(figure, stream))
    files.write_text(table, as_csv(data))
    return [vector, *([png] if shown else []), table]


def as_csv(data: pd.DataFrame) -> str:
    """The plotted values, rounded."""
    return data.map(_cell).to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    if not isinstance(value, float) or pd.isna(value):
        return value
    return f"{value:.0f}" if value == int(value) else f"{value:.{_DIGITS}g}"


def shown_as_png() -> set[Path]:
    """Pictures that README.md and the pages of docs/ link as PNG."""
    texts = [files.read_text(page) for page in paths.pages()]
    return {paths.figure(*names, "png") for text in texts for names in _SHOWN.findall(text)}


def _as_svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=_METADATA)
    return svg.smaller(drawn.getvalue())


def _save_png(figure: Figure, stream: BinaryIO) -> None:
    """With a palette of 256 colours: a third of the size, and no difference to be seen."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(stream, "png", optimize=True)


def heading(study: Study, title: str, data: pd.DataFrame) -> str:
    """What is shown, of which data, and over how many seeds where seeds matter."""
    where = f"preset {study.preset}, dataset {study.dataset} (images: {study.data_source})"
    return f"{title}\n{where}" + (f", {_seeds(data)}" if {"n", "seed"} & set(data.columns) else "")


def _seeds(data: pd.DataFrame) -> str:
    """How many seeds are behind a mark; where marks are single runs, how many seeds have run."""
    if "status" in data:
        data = data[data["status"] != "missing"]
    by = [name for name in ("arch", "method", "steps_on_theta") if name in data] or [True] * len(data)
    sizes = data["n"] if "n" in data else data.groupby(by)["seed"].nunique()
    sizes = sizes[sizes > 0]
    if sizes.empty:
        return "n = 0"
    low, high = int(sizes.min()), int(sizes.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"
