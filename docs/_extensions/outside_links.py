"""Lists the links that leave the site in external-links.txt beside it: builds and tests ask no network for them."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx


def _gather(app: Sphinx, page: str, template: str, context: dict, tree: nodes.document | None) -> None:
    found = {each["refuri"] for each in tree.findall(nodes.reference) if "refuri" in each} if tree else set()
    app.outside_links |= {address for address in found if address.startswith(("http:", "https:"))}


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        lines = "".join(f"{address}\n" for address in sorted(app.outside_links))
        Path(app.outdir, "external-links.txt").write_text(lines, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.outside_links = set()
    app.connect("html-page-context", _gather)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
