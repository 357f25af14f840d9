"""Generated blocks of README.md and docs/: tables, verdicts and figures between markers, so no result is typed.

    <!-- generated:headline:laptop+study -->                  dense and gated on eight networks of these presets at most
    <!-- generated:verdicts:laptop -->                        the paper's claims, a line each
    <!-- generated:networks:laptop:mnist -->                  the methods on every network of a data set
    <!-- generated:published:mnist -->                        what others published on it
    <!-- generated:methods:scores -->                         the methods of a family, and what they are
    <!-- generated:figure:laptop:mnist:accuracy-vs-depth -->  a figure with its caption

each closed by `<!-- /generated:NAME -->` with the same name. Links are relative to the page's folder.
"""

import os
import re
from pathlib import Path

from layerprune.analysis import compact, headline, literature
from layerprune.analysis.claims import ledger
from layerprune.analysis.figures import FIGURES, captions
from layerprune.analysis.frames import Study, read_study
from layerprune.core.methods import FAMILIES, description, families
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

_OPENING = re.compile(r"<!-- generated:(\S+) -->")


def update(page: Path, preset: str | None = None) -> bool:
    """Rewrite the generated blocks (of one preset); returns whether the text changed.

    Raises LayerpruneError for a marker that is unknown or not closed, and for a figure that does not exist.
    """
    before, after = _rewritten(page, preset)
    if after != before:
        files.write_text(page, after)
    return after != before


def is_current(page: Path, preset: str | None = None) -> bool:
    """Would `update` change nothing? Writes nothing."""
    before, after = _rewritten(page, preset)
    return after == before


def _rewritten(page: Path, preset: str | None) -> tuple[str, str]:
    try:
        before = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayerpruneError(f"{page}: not readable: {error}") from None
    after, place = "", 0
    while opening := _OPENING.search(before, place):
        name, closing = opening[1], f"<!-- /generated:{opening[1]} -->"
        end = before.find(closing, opening.end())
        if end < 0:
            raise LayerpruneError(f"{page}: generated:{name}: no closing {closing}")
        after += before[place : opening.end()]
        after += _content(page, name, preset, before[opening.end() : end]) + closing
        place = end + len(closing)
    return before, after + before[place:]


def _content(page: Path, name: str, preset: str | None, present: str) -> str:
    kind, *words = name.split(":")
    if kind not in _CONTENTS or len(words) != len(_CONTENTS[kind][1]):
        known = ", ".join(":".join([kind, *words]) for kind, (_, words) in _CONTENTS.items())
        raise LayerpruneError(f"{page}: generated:{name}: unknown marker (known: {known})")
    if _CONTENTS[kind][1][0] in ("PRESET", "PRESETS") and preset not in (None, *words[0].split("+")):
        return present
    return f"\n{_CONTENTS[kind][0](page, *words)}\n"


def _headline(page: Path, presets: str) -> str:
    return f"{headline.markdown(headline.rows(headline.studies_of(*presets.split('+'))))}\n\n{headline.LEGEND}"


def _verdicts(page: Path, preset: str) -> str:
    return ledger.one_line_each(ledger.entries(preset), _link(page, paths.claims(preset, "md")))


def _networks(page: Path, preset: str, dataset: str) -> str:
    study = read_study(preset, dataset, partial=True)
    sections = [text for arch in study.archs if (text := _network(page, study, arch))]
    return "\n\n".join([*sections, compact.LEGEND])


def _network(page: Path, study: Study, arch: str) -> str:
    """The network's heading and table; empty where nothing of it has run."""
    rows = compact.compact(study, arch)
    waiting = compact.not_run(rows)
    if waiting.all():
        return ""
    csv, tex = (
        _link(page, paths.compact_table(study.preset, study.dataset, arch, suffix)) for suffix in ("csv", "tex")
    )
    told = f"{compact.told_of(study, arch)} As [CSV]({csv}), [LaTeX]({tex})."
    told += f" Not run yet: {', '.join(rows['method'][waiting])}." if waiting.any() else ""
    return f"### {arch}\n\n{told}\n\n{compact.markdown(rows[~waiting])}"


def _published(page: Path, dataset: str) -> str:
    return literature.markdown(literature.published(dataset))


def _methods(page: Path, family: str) -> str:
    if family not in FAMILIES:
        raise LayerpruneError(f"{page}: generated:methods: unknown family '{family}' (known: {', '.join(FAMILIES)})")
    of_it = [slug for slug, its_family in families().items() if its_family == family]
    rows = [f"| `{slug}` | {description(slug).replace('|', chr(92) + '|')} |" for slug in of_it]
    return "\n".join(["| method | what it is |", "| :--- | :--- |", *rows])


def _figure(page: Path, preset: str, dataset: str, name: str) -> str:
    if name not in FIGURES:
        raise LayerpruneError(f"{page}: generated:figure: unknown figure '{name}' (known: {', '.join(FIGURES)})")
    picture = paths.figure(preset, dataset, name, "svg")
    if not picture.is_file():
        raise LayerpruneError(f"{page}: generated:figure: {picture} does not exist; run: layerprune figures")
    return f"![{FIGURES[name].TITLE}, {dataset}]({_link(page, picture)})\n\n{captions[name]}"


def _link(page: Path, target: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()


_CONTENTS = {
    "headline": (_headline, ("PRESETS",)),
    "verdicts": (_verdicts, ("PRESET",)),
    "networks": (_networks, ("PRESET", "DATASET")),
    "published": (_published, ("DATASET",)),
    "methods": (_methods, ("FAMILY",)),
    "figure": (_figure, ("PRESET", "DATASET", "NAME")),
}
"""Kind of block -> what makes it, and the words that follow the kind."""
