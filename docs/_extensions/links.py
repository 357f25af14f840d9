"""Links to files of the repository lead to the page that shows the file, where there is one.

Pages of docs/ and what they include (README.md, the claims ledger) are written for readers of the repository, with
links relative to the folder that a text lies in; the site asks for links relative to docs/.
"""

import posixpath
import re
from pathlib import Path, PurePath

from sphinx.application import Sphinx

SHOWN = {"README.md": "index.md", "results/laptop/claims.md": "claims.md"}
"""Files of the repository that a page of the site shows."""
NOTEBOOK = "examples/prune_your_network.ipynb"
_LOCAL_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
_NOTEBOOK_LINK = re.compile(rf"\[([^\]]+)\]\([./]*{re.escape(NOTEBOOK)}\)")


def relinked(text: str, folder: str, page: str = "docs") -> str:
    """Markdown that lies in a folder of the repository, with links as a page in the folder `page` needs them."""

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        shown = f"docs/{SHOWN[target]}" if target in SHOWN else target
        return f"]({posixpath.relpath(shown, page)}"

    # The notebook's page is a link to its file, which a Markdown link would follow out of the site.
    text = _NOTEBOOK_LINK.sub(lambda match: f"{{doc}}`{match[1].strip('`')} </{PurePath(NOTEBOOK).stem}>`", text)
    return _LOCAL_LINK.sub(link, text)


def _of_a_page(app: Sphinx, page: str, source: list[str]) -> None:
    if Path(app.env.doc2path(page)).suffix == ".md":
        source[0] = relinked(source[0], _folder(page), _folder(page))


def _of_an_included_file(app: Sphinx, file: Path, page: str, source: list[str]) -> None:
    """`file` is relative to docs/."""
    folder = posixpath.normpath(posixpath.join("docs", file.parent.as_posix()))
    source[0] = relinked(source[0], folder, _folder(page))


def _folder(page: str) -> str:
    """The folder of a page's source in the repository."""
    return posixpath.dirname(posixpath.join("docs", page))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _of_a_page)
    app.connect("include-read", _of_an_included_file)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
