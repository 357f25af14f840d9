"""Try the zoo: `python -m tests.zoo [part of a name]...` writes docs/zoo.md, or those networks' rows of it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .catalog import Animal, zoo
from .examine import Row, examine

DOCS = Path(__file__).parents[2] / "docs" / "zoo.md"
HEAD = """# Networks tried

Written by `python -m tests.zoo` (with names: their rows alone): small versions of published networks in random weights. *Exact* says that the network with open gates gives the outputs, gradients, buffers,
attributes, calls of hooks and random draws of the network alone, bit for bit, in training and evaluation, for two batch sizes, and that so does a copy of it. *Gap* is the largest
difference between closed gates and the smaller network, relative to the largest output. *Exported* is by torch.export, for networks that take one tensor. Where no residual section may
go, sections are those of `granularity="any"` (*found as*: any).

{summary}

| network | package | found as | sections | removable | removed | exact | gap | exported | why sections stay |
| :--- | :--- | :--- | ---: | ---: | ---: | :--- | ---: | :--- | :--- |
"""  # noqa: E501


def main(words: list[str]) -> int:
    """Try the networks whose names hold one of the words, all without words, and write their rows; 1 where one is not
    exact."""
    rows, exact = _lines(DOCS.read_text(encoding="utf-8")) if words else {}, True
    for animal in zoo().values():
        if not words or any(word in animal.name for word in words):
            row = _examined(animal)
            rows[row.name], exact = line(row), exact and not row.differs
            print(rows[row.name], flush=True)
    write(rows)
    return int(not exact)


def write(rows: Mapping[str, str]) -> None:
    """The page, in the order of the zoo; networks that are no longer in it are left out."""
    told = [rows[name] for name in zoo() if name in rows]
    DOCS.write_text(HEAD.format(summary=summary(told)) + "\n".join(told) + "\n", encoding="utf-8")


def _lines(page: str) -> dict[str, str]:
    """The rows of a page by their networks."""
    rows = [each for each in page.splitlines() if each.startswith("| ")]
    return {_cells(each)[0]: each for each in rows[2:]}


def _cells(row: str) -> list[str]:
    return [each.strip() for each in row.split("|")[1:-1]]


def summary(rows: Sequence[str]) -> str:
    """How many networks of each package are pruned exactly."""
    counts: dict[str, list[bool]] = {}
    for cells in map(_cells, rows):
        counts.setdefault(cells[1], []).append(cells[6] == "yes" and float(cells[7]) <= 1e-6)
    told = [f"{kind} {sum(each)} of {len(each)}" for kind, each in counts.items()]
    return f"Networks pruned with a gap of at most 1e-6: {', '.join(told)}."


def line(row: Row) -> str:
    """A row of the table."""
    gap = f"{row.gap:.0e}" if row.gap > 0 else "0" if row.gap == 0 else "-"
    exact = "-" if not row.removable else "no: " + ", ".join(dict.fromkeys(row.differs)) if row.differs else "yes"
    told = [row.name, row.kind, row.granularity, row.sections, row.removable, row.pruned, exact, gap]
    told += [row.exported or "-", _in_short(row.reason)]
    return f"| {' | '.join(str(each).replace('|', '/') for each in told)} |"


def _in_short(reason: str) -> str:
    """The first three of many reasons."""
    told = reason.split("; ")
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _examined(animal: Animal) -> Row:
    try:
        return examine(animal)
    except Exception as error:  # the others are to be tried too
        return Row(animal.name, animal.kind, differs=[f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
