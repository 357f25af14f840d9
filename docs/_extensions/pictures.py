"""Figures fill the column at most, and lead to themselves at full size: on a phone their words are too small."""

from docutils import nodes
from sphinx.application import Sphinx


def _mark(app: Sphinx, tree: nodes.document) -> None:
    """Sphinx links every picture that is given a width to its file."""
    for image in tree.findall(nodes.image):
        if "figures/" in image["uri"]:
            image["width"] = "100%"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
