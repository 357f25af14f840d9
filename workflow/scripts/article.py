"""A preset's results as a short article in PDF, set by Typst from the records: `make article PRESET=laptop`.

python workflow/scripts/article.py PRESET ARTICLE.pdf
"""

import json
import sys
from pathlib import Path

import matplotlib
import typst

from layerprune.analysis import article
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

TEMPLATE = Path(__file__).parents[1] / "report" / "article.typ"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
"""The figures' own fonts."""


def pdf(preset: str) -> bytes:
    """The article as PDF. Typst reads pictures below the root of the study, and nothing from a network."""
    inputs = {"contents": json.dumps(article.contents(preset))}
    source = paths.root() / "report" / TEMPLATE.name
    files.write_text(source, TEMPLATE.read_text(encoding="utf-8"))
    try:
        return typst.compile(source, root=paths.root(), font_paths=[FONTS], ignore_system_fonts=True, sys_inputs=inputs)
    finally:
        source.unlink()


if __name__ == "__main__":
    name, target = sys.argv[1:]
    try:
        Path(target).write_bytes(pdf(name))
    except LayerpruneError as error:
        sys.exit(f"Error: {error}")
