"""Parts of pages that are made of the code and the records when the site is built.

A page says `<!-- site:KIND -->` where such a part goes:

    make-targets        the targets of the Makefile with their descriptions
    settings            every key of a preset and of every method
    figures             the figures that tell most, with captions and a picture each
    figures-appendix    the others
    table-legend        what the columns of a table mean
"""

import re
from collections.abc import Callable
from pathlib import Path

import figure_gallery
import settings_reference
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from layerprune.analysis.tables import LEGEND

REPOSITORY = Path(__file__).parents[2]
_MARKER = re.compile(r"<!-- site:([a-z-]+) -->")


def make_targets() -> str:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    rows = re.findall(r"^([a-z-]+):.*## (.*)$", makefile, flags=re.MULTILINE)
    return "\n".join(
        ["| command | what it does |", "| :--- | :--- |", *(f"| `make {a}` | {b} |" for a, b in rows)]
    ).replace("<", r"\<")


PARTS: dict[str, Callable[[], str]] = {
    "make-targets": make_targets,
    "settings": settings_reference.page,
    "figures": figure_gallery.page,
    "figures-appendix": figure_gallery.appendix,
    "table-legend": lambda: LEGEND,
}


def filled(text: str) -> str:
    """A page with its parts made. Raises ExtensionError for a part that nobody makes."""

    def part(match: re.Match) -> str:
        kind = match[1]
        if kind not in PARTS:
            raise ExtensionError(f"<!-- site:{kind} -->: unknown part (known: {', '.join(PARTS)})")
        return PARTS[kind]()

    return _MARKER.sub(part, text)


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
