"""Tables in hand-written pages, between `<!-- table:NAME -->` and `<!-- /table:NAME -->`, so that a page is whole
wherever it is shown.
"""

from pathlib import Path


def filled(page: Path, tables: dict[str, str]) -> str:
    """The page's text with each table in its place. Raises ValueError where a table has none."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        opening, closing = f"<!-- table:{name} -->\n", f"<!-- /table:{name} -->"
        if text.count(opening) != 1 or closing not in text[text.index(opening) :]:
            raise ValueError(f"{page}: no place for the table '{name}': {opening.strip()} and {closing}")
        start = text.index(opening) + len(opening)
        text = text[:start] + table + text[text.index(closing, start) :]
    return text
