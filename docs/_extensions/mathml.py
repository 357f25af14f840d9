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

REPAIRS = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",  # is distributed as: a relation, with space around it
    "<mo>&#x0002A;</mo>": "<mo>&#x02217;</mo>",  # the star of an optimum, which else stands too high
    "<mo>&#x02016;</mo>": '<mo stretchy="false">&#x02016;</mo>',  # both bars of a norm are as tall
    "<mi>log</mi><mi>": '<mi>log</mi><mspace width="0.167em" /><mi>',
}
"""What the converter writes -> what browsers draw as it is meant."""


def rendered(latex: str, display: str, place: nodes.Node | None = None) -> str:
    """The <math> element of a formula. A command that is not understood is a warning, which ends a strict build."""
    markup = convert(latex, display=display)
    for written, meant in REPAIRS.items():
        markup = markup.replace(written, meant)
    unknown = re.findall(r"\\[a-zA-Z]+", markup)
    if unknown:
        logger.warning("no MathML for %s in: %s", ", ".join(unknown), latex, location=place)
    return markup


LONG = 30
"""Characters of LaTeX from which on a formula may be wider than a phone; a browser breaks no formula over lines."""


def visit_inline(writer: Any, node: nodes.math) -> None:
    latex = node.astext()
    writer.body.append(f'<span class="math{" long" * (len(latex) > LONG)}">{rendered(latex, "inline", node)}</span>')
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
