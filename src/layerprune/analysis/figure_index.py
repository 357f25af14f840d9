"""The README.md of a data set's folder of figures: which there are, first things first, and what the others need."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from layerprune.analysis.figures import APPENDIX, FIGURES, RANKED
from layerprune.analysis.frames import Study
from layerprune.system import files, paths

WITHOUT_RESULT = ("missing", "unreadable", "diverged", "failed")
"""What the status of a run without a result is."""
INTRODUCTION = (
    "Each picture has its plotted values beside it, as a CSV of the same name. What the marks mean: "
    "`docs/reading-the-report.md`. A network with a single mark in a figure has no panel there; its numbers are in "
    "the tables."
)


def write(study: Study, written: Mapping[str, Sequence[Path]]) -> Path:
    """Write the index and return its path; `written` has the files of every figure, none if it was not drawn."""
    path = paths.figure_index(study.preset, study.dataset)
    files.write_text(path, page(study, written))
    return path


def page(study: Study, written: Mapping[str, Sequence[Path]]) -> str:
    """The index as Markdown."""
    parts = [f"# Figures of preset {study.preset}, data set {study.dataset}", INTRODUCTION]
    for title, names in (("What tells most", RANKED), ("Appendix", APPENDIX)):
        lines = [_entry(name, written[name]) for name in names if written[name]]
        parts += [f"## {title}", "\n".join(lines)] if lines else []
    absent = [f"* `{name}`: needs {FIGURES[name].NEEDS}." for name in FIGURES if not written[name]]
    parts += ["## Not drawn, as no record has it", "\n".join(absent)] if absent else []
    return "\n\n".join([*parts, "## Runs without a result", _without_result(study.runs)]) + "\n"


def _entry(name: str, written: Sequence[Path]) -> str:
    pictures = [path for path in written if path.suffix == ".svg"]
    return f"* {', '.join(f'[{path.stem}]({path.name})' for path in pictures)}: {FIGURES[name].TITLE}"


def _without_result(runs: pd.DataFrame) -> str:
    """How many runs of which methods failed or are missing."""
    gone = runs[runs["status"].isin(WITHOUT_RESULT)]
    if gone.empty:
        return f"None: all {len(runs)} planned runs have one."
    counts = gone.groupby(["arch", "label", "status"], sort=False).size()
    lines = [f"* {arch}, {label}: {count} {status}" for (arch, label, status), count in counts.items()]
    return f"{len(gone)} of {len(runs)} planned runs have none.\n\n" + "\n".join(lines)
