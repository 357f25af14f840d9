"""Try the zoo: `python -m tests.zoo [part of a name]...`; without words the table of docs/zoo.md is written."""

import sys
from pathlib import Path

from .catalog import Animal, zoo
from .examine import Row, examine

DOCS = Path(__file__).parents[2] / "docs" / "zoo.md"
HEAD = """# Networks tried

Written by `python -m tests.zoo`: small versions of published networks in random weights. *Exact* says that the network with open gates gives the outputs, gradients, buffers,
attributes, calls of hooks and random draws of the network alone, bit for bit, in training and evaluation, for two batch sizes, and that so does a copy of it. *Gap* is the largest
difference between closed gates and the smaller network, relative to the largest output. *Exported* is by torch.export, for networks that take one tensor.

| network | package | sections | removable | removed | exact | gap | exported | why sections stay |
| :--- | :--- | ---: | ---: | ---: | :--- | ---: | :--- | :--- |
"""  # noqa: E501


def main(words: list[str]) -> int:
    """Try the networks whose names hold one of the words, all without words; 1 where one is not exact."""
    rows = []
    for animal in zoo().values():
        if not words or any(word in animal.name for word in words):
            rows.append(_examined(animal))
            print(line(rows[-1]), flush=True)
    if not words:
        DOCS.write_text(HEAD + "\n".join(map(line, rows)) + "\n", encoding="utf-8")
    return int(any(row.differs for row in rows))


def line(row: Row) -> str:
    """A row of the table."""
    gap = f"{row.gap:.0e}" if row.gap > 0 else "0" if row.gap == 0 else "-"
    exact = "-" if not row.removable else "no: " + ", ".join(dict.fromkeys(row.differs)) if row.differs else "yes"
    told = [row.name, row.kind, row.sections, row.removable, row.pruned, exact, gap, row.exported or "-", row.reason]
    return f"| {' | '.join(str(each).replace('|', '/') for each in told)} |"


def _examined(animal: Animal) -> Row:
    try:
        return examine(animal)
    except Exception as error:  # the others are to be tried too
        return Row(animal.name, animal.kind, differs=[f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
