"""Generated blocks of a README: tables and figures between markers, so that no result is typed by hand.

    <!-- generated:table:laptop:mnist -->                     methods' main settings, a table per architecture
    <!-- generated:variants:laptop:mnist -->                  their variants
    <!-- generated:claims:laptop -->                          the paper's claims and their verdicts
    <!-- generated:figure:laptop:mnist:accuracy-vs-depth -->  a link to the PNG, the caption below

each closed by `<!-- /generated:NAME -->` with the same name. Paths are relative to the README's folder.
"""

import os
import re
from pathlib import Path

from layerprune.analysis import statistics, tables
from layerprune.analysis.claims import ledger
from layerprune.analysis.figures import FIGURES, captions
from layerprune.analysis.frames import read_study
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

_OPENING = re.compile(r"<!-- generated:(\S+) -->")


def update(readme: Path, preset: str | None = None, dataset: str | None = None) -> bool:
    """Rewrite the generated blocks (of one preset and dataset); returns whether the text changed.

    Raises LayerpruneError for a marker that is unknown or not closed, and for a figure that is not there.
    """
    before, after = _rewritten(readme, preset, dataset)
    if after != before:
        files.write_text(readme, after)
    return after != before


def is_current(readme: Path, preset: str | None = None, dataset: str | None = None) -> bool:
    """Would `update` change nothing? Writes nothing."""
    before, after = _rewritten(readme, preset, dataset)
    return after == before


def _rewritten(readme: Path, preset: str | None, dataset: str | None) -> tuple[str, str]:
    try:
        before = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayerpruneError(f"{readme}: not readable: {error}") from None
    after, place = "", 0
    while opening := _OPENING.search(before, place):
        name, closing = opening[1], f"<!-- /generated:{opening[1]} -->"
        end = before.find(closing, opening.end())
        if end < 0:
            raise LayerpruneError(f"{readme}: generated:{name}: no closing {closing}")
        after += before[place : opening.end()]
        after += _content(readme, name, preset, dataset, before[opening.end() : end]) + closing
        place = end + len(closing)
    return before, after + before[place:]


def _content(readme: Path, name: str, preset: str | None, dataset: str | None, present: str) -> str:
    kind, *words = name.split(":")
    if (kind, len(words)) not in (("table", 2), ("variants", 2), ("claims", 1), ("figure", 3)):
        raise LayerpruneError(
            f"{readme}: generated:{name}: unknown marker (known: table:PRESET:DATASET, "
            "variants:PRESET:DATASET, claims:PRESET, figure:PRESET:DATASET:NAME)"
        )
    if preset not in (None, words[0]) or dataset not in (None, *words[1:2]):
        return present
    text = _CONTENTS[kind](readme, name, *words)
    return f"\n{text}\n"


def _table(readme: Path, marker: str, preset: str, dataset: str) -> str:
    kind = marker.partition(":")[0]
    study = read_study(preset, dataset, partial=True)
    cells = tables.comparison(statistics.summarise(study.runs))
    chosen = cells[(cells["variant"] == "default") == (kind == "table")]
    return f"{tables.markdown(chosen)}\n\n{tables.LEGEND}" if len(chosen) else "No such runs are planned."


def _claims(readme: Path, marker: str, preset: str) -> str:
    return f"{ledger.summary(ledger.entries(preset))}\n\n{ledger.LEGEND}"


def _figure(readme: Path, marker: str, preset: str, dataset: str, name: str) -> str:
    if name not in FIGURES:
        raise LayerpruneError(f"{readme}: generated:{marker}: unknown figure (known: {', '.join(FIGURES)})")
    picture = paths.figure(preset, dataset, name, "png")
    if not picture.is_file():
        raise LayerpruneError(
            f"{readme}: generated:{marker}: {picture} is not there: build the figures first "
            "(as PNG those are drawn that README.md and docs/*.md show)"
        )
    link = Path(os.path.relpath(picture, readme.parent)).as_posix()
    return f"![{FIGURES[name].TITLE}]({link})\n\n{captions[name]}"


_CONTENTS = {"table": _table, "variants": _table, "claims": _claims, "figure": _figure}
