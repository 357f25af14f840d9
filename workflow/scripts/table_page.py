"""A Markdown table as a page of the report, which shows HTML and only offers other tables for download.

python workflow/scripts/table_page.py TABLE.md PAGE.html
"""

import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """body {font: 15px sans-serif; margin: 2em}
table {border-collapse: collapse; margin-bottom: 1em}
th, td {padding: .3em .8em; border-bottom: 1px solid #ccc; white-space: nowrap}
p {max-width: 60em}"""


_LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)[^)]+\)")


def page_of(markdown: str, title: str) -> str:
    """A whole HTML page with the table; of links to files, which are not in the report, the words remain."""
    body = MarkdownIt("commonmark").enable("table").render(_LOCAL_LINK.sub(r"\1", markdown))
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}'


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(page_of(source.read_text(encoding="utf-8"), source.stem), encoding="utf-8")
