"""Tables and figures of one dataset from its records: a figure as SVG, with a CSV of what is plotted.

Figures that README.md or a page of docs/ links as PNG are drawn as such too, see `shown_as_png`.
"""

import io
import re
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from layerprune.analysis import style, tables
from layerprune.analysis.figures import FIGURES
from layerprune.analysis.frames import Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

_METADATA = {"Date": None, "Creator": None}
"""Without a date and the library's version the same records give the same bytes."""
_PLACES = re.compile(r'\b(?:d|x|y|width|height|transform)="[^"]*"')
_DIGITS = re.compile(r"(\d+\.\d{2})\d*")
_SHOWN = re.compile(r"figures/([^/\s]+)/([^/\s]+)/([\w-]+)\.png")


def build_tables(preset_name: str, dataset: str, partial: bool = False) -> list[Path]:
    """Write every table. Without `partial`, raises LayerpruneError naming the first missing runs."""
    return tables.write(read_study(preset_name, dataset, partial))


def build_figures(preset_name: str, dataset: str, names: list[str] | None = None, partial: bool = False) -> list[Path]:
    """Write the named figures (all without names). Without `partial`, refuses gaps as build_tables does."""
    chosen = list(FIGURES) if names is None else names
    for name in chosen:
        if name not in FIGURES:
            raise LayerpruneError(f"figure '{name}' is unknown (known: {', '.join(FIGURES)})")
    study = read_study(preset_name, dataset, partial)
    return [path for name in chosen for path in _build_figure(study, name)]


def _build_figure(study: Study, name: str) -> list[Path]:
    module = FIGURES[name]
    data = module.prepare(study)
    svg, png, table = (paths.figure(study.preset, study.dataset, name, suffix) for suffix in ("svg", "png", "csv"))
    shown = png in shown_as_png()
    with style.applied():
        figure = module.draw(data, heading(study, module.TITLE, data))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout stands: do not work it out again for each format
        files.write_text(svg, _as_svg(figure))
        if shown:
            files.write_atomically(png, lambda stream: _save_png(figure, stream))
    files.write_text(table, data.to_csv(index=False, lineterminator="\n"))
    if not shown:
        png.unlink(missing_ok=True)  # of a page that no longer shows it
    return [svg, *([png] if shown else []), table]


def shown_as_png() -> set[Path]:
    """Pictures that README.md and the pages of docs/ link as PNG."""
    texts = [page.read_text(encoding="utf-8") for page in paths.pages()]
    return {paths.figure(*names, "png") for text in texts for names in _SHOWN.findall(text)}


def _as_svg(figure: Figure) -> str:
    """The picture as text, places cut to hundredths of a point and lines joined: half the size."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=_METADATA)
    rounded = _PLACES.sub(
        lambda places: _DIGITS.sub(lambda digits: digits[1].rstrip("0").rstrip("."), places[0]), drawn.getvalue()
    )
    return re.sub(r"\s*\n\s*", " ", rounded).replace("> <", "><") + "\n"


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
    by = [name for name in ("arch", "method") if name in data] or [True] * len(data)
    sizes = data["n"][data["n"] > 0] if "n" in data else data.groupby(by)["seed"].nunique()
    if sizes.empty:
        return "n = 0"
    low, high = int(sizes.min()), int(sizes.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"
