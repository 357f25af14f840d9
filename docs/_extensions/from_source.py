"""Parts of pages that are made of the code, the README and the records when the site is built.

A page says `<!-- site:KIND -->` or `<!-- site:KIND:WHAT -->` where such a part goes:

    readme:HEADING      a section of README.md, without its heading
    file:PATH           a Markdown file of the repository
    make-targets        the targets of the Makefile with their descriptions
    public-names        what `layerprune` itself exports, for autodoc
    settings            every key of a preset and of every method
    commands            every command of `layerprune` with its options
    figures             every figure with its caption and a picture
    figure:DATASET:NAME a picture of the preset laptop with its caption
    table-legend        what the columns of a table mean

Links to files of the repository lead to the page that shows the file, where there is one.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path, PurePath

import command_reference
import figure_gallery
import settings_reference
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import layerprune
from layerprune.analysis.tables import LEGEND

REPOSITORY = Path(__file__).parents[2]
SHOWN = {"README.md": "index.md", "results/laptop/claims.md": "claims.md"}
"""Files of the repository that a page of the site shows."""
NOTEBOOK = "examples/prune_your_network.ipynb"
_MARKER = re.compile(r"<!-- site:([a-z-]+)(?::(.+?))? -->")
_LOCAL_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
_NOTEBOOK_LINK = re.compile(rf"\[([^\]]+)\]\([./]*{re.escape(NOTEBOOK)}\)")


def readme_section(heading: str) -> str:
    """The text below a heading of the README. Raises ExtensionError where there is none."""
    parts = re.split(r"^## (.+)\n", _read("README.md"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if heading not in sections:
        raise ExtensionError(f"README.md has no section '{heading}' (has: {', '.join(sections)})")
    return relinked(sections[heading], Path())


def repository_file(path: str) -> str:
    return relinked(_read(path), Path(path).parent)


def relinked(text: str, folder: Path) -> str:
    """Markdown that lies in a folder of the repository, with links as a page of docs/ needs them."""

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder.as_posix(), match[1]))
        return f"]({SHOWN.get(target) or (target[5:] if target.startswith('docs/') else f'../{target}')}"

    # The notebook's page is a link to its file, which a Markdown link would follow out of the site.
    text = _NOTEBOOK_LINK.sub(rf"{{doc}}`\1 <{PurePath(NOTEBOOK).stem}>`", text)
    return _LOCAL_LINK.sub(link, text)


def make_targets() -> str:
    rows = re.findall(r"^([a-z-]+):.*## (.*)$", _read("Makefile"), flags=re.MULTILINE)
    return "\n".join(
        ["| command | what it does |", "| :--- | :--- |", *(f"| `make {a}` | {b} |" for a, b in rows)]
    ).replace("<", r"\<")


def public_names() -> str:
    """Directives for what the package exports, each name once."""
    names = [f"layerprune.{name}" for name in sorted(layerprune.__all__, key=str.lower)]
    return "\n".join(f"```{{eval-rst}}\n.. {_directive(name)}:: {name}\n```\n" for name in names)


def _directive(name: str) -> str:
    return "autoclass" if isinstance(getattr(layerprune, name.rpartition(".")[2]), type) else "autofunction"


def _read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


PARTS: dict[str, Callable[..., str]] = {
    "readme": readme_section,
    "file": repository_file,
    "make-targets": make_targets,
    "public-names": public_names,
    "settings": settings_reference.page,
    "commands": command_reference.page,
    "figures": figure_gallery.page,
    "figure": figure_gallery.one,
    "table-legend": lambda: LEGEND,
}


def filled(text: str) -> str:
    """A page with its parts made. Raises ExtensionError for a part that nobody makes."""

    def part(match: re.Match) -> str:
        kind, what = match.groups()
        if kind not in PARTS:
            raise ExtensionError(f"<!-- site:{kind} -->: unknown part (known: {', '.join(PARTS)})")
        return PARTS[kind]() if what is None else PARTS[kind](what)

    return _MARKER.sub(part, text)


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    if Path(app.env.doc2path(page)).suffix == ".md":
        source[0] = filled(relinked(source[0], Path("docs")))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
