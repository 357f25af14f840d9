"""Docstrings of this package are plain text with `names` in backticks; this makes reStructuredText of them.

What is indented further than the text around it is shown as it stands; what reStructuredText would take for markup
is escaped.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx


def translated(lines: Sequence[str]) -> list[str]:
    """A docstring's lines, without common indentation, as reStructuredText."""
    return [line for is_block, part in _runs(lines) for line in (_block(part) if is_block else map(_line, part))]


def _runs(lines: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Runs of indented and of other lines; an empty line belongs to what stands before it."""
    indented = False
    marked = []
    for line in lines:
        indented = line.startswith(" ") if line.strip() else indented
        marked.append((indented, line))
    for is_block, part in groupby(marked, key=lambda pair: pair[0]):
        yield is_block, [line for _, line in part]


def _block(lines: Sequence[str]) -> list[str]:
    return ["", "::", "", *(f"    {line}" if line.strip() else "" for line in lines), ""]


def _line(line: str) -> str:
    outside, *rest = re.split(r"(`[^`]*`)", line)
    pieces = [_escaped(outside)]
    for code, text in zip(rest[::2], rest[1::2], strict=True):
        # A backslash and a space end the literal where a letter follows, and are not seen.
        pieces += [f"`{code}`", "\\ " * bool(re.match(r"\w", text)), _escaped(text)]
    return "".join(pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*|]|(?<=\w)_(?!\w))", r"\\\1", text)


def _translate(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    of_a_field = lines[:1] and lines[0].startswith("Alias for field number")  # by collections.namedtuple, not ours
    lines[:] = [] if of_a_field else translated(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _translate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
