"""Equations as MathML, which browsers draw by themselves: no script, no font, no network.

Sphinx asks a renderer for two visitors, of equations within a line and of those on lines of their own.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def rendered(latex: str, display: str, place: nodes.Node | None = None) -> str:
    """The <math> element of a formula. A command that is not understood is a warning, which ends a strict build."""
    markup = convert(latex, display=display)
    unknown = re.findall(r"\\[a-zA-Z]+", markup)
    if unknown:
        logger.warning("no MathML for %s in: %s", ", ".join(unknown), latex, location=place)
    return markup


def visit_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(rendered(node.astext(), "inline", node))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math equation"))
    writer.body.append(rendered(node.astext(), "block", node))
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({node["number"]})</span>')
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
