"""Tables and figures of one dataset from its records; figures as SVG, PNG and a CSV of what is plotted."""

from pathlib import Path
from typing import BinaryIO

import pandas as pd
from matplotlib.figure import Figure

from layerprune.analysis import style, tables
from layerprune.analysis.figures import FIGURES
from layerprune.analysis.frames import Study, read_study
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

# Without a date and the library's version the same records give the same bytes.
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


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
    targets = {suffix: paths.figure(study.preset, study.dataset, name, suffix) for suffix in ("svg", "png", "csv")}
    with style.applied():
        figure = module.draw(data, heading(study, module.TITLE, data))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout stands: do not work it out again for each format
        for suffix in ("svg", "png"):
            _save(figure, targets[suffix], suffix)
    files.write_text(targets["csv"], data.to_csv(index=False, lineterminator="\n"))
    return list(targets.values())


def _save(figure: Figure, path: Path, suffix: str) -> None:
    def fill(stream: BinaryIO) -> None:
        figure.savefig(stream, format=suffix, metadata=_METADATA[suffix])

    files.write_atomically(path, fill)


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
