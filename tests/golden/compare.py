"""What counts as the same number: exact for whole numbers and words, within a tolerance for the others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RELATIVE = 5e-3
"""Of the largest entry of a list, or of the number itself; see the package's docstring for where it comes from."""
NOTHING = 1e-12
"""Numbers as small as this are rounding."""

EVERYWHERE = "everywhere"
Tolerances = Mapping[str, float]
"""Name of a value -> what it may differ by, where it is counted in examples and so moves in steps;
EVERYWHERE -> what takes RELATIVE's place."""


def differences(stored: Any, found: Any, absolute: Tolerances, place: str = "") -> Iterator[str]:
    """One line for everything stored that was found otherwise; a record's new field is no change of results."""
    if isinstance(stored, dict) and isinstance(found, dict):
        for name in stored:
            inside = f"{place}.{name}" if place else name
            yield from differences(stored.get(name), found.get(name), absolute, inside)
    elif _are_numbers(stored) and _are_numbers(found) and len(stored) == len(found):
        scale = max((abs(value) for value in stored if value is not None), default=0.0)
        pairs = zip(stored, found, strict=True)
        if not all(_alike(a, b, _allowed(place, scale, absolute)) for a, b in pairs):
            yield f"{place}: {_short(stored)} stored, {_short(found)} found"
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for index, pair in enumerate(zip(stored, found, strict=True)):
            yield from differences(*pair, absolute, f"{place}[{index}]")
    elif not _alike(stored, found, _allowed(place, abs(stored) if isinstance(stored, float) else 0.0, absolute)):
        yield f"{place}: {stored} stored, {found} found"


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(each is None or isinstance(each, int | float) for each in value)


def _allowed(place: str, scale: float, absolute: Tolerances) -> float:
    name = place.rpartition(".")[2].partition("[")[0]
    return absolute.get(name, absolute.get(EVERYWHERE, RELATIVE) * scale + NOTHING)


def _alike(stored: Any, found: Any, allowed: float) -> bool:
    if isinstance(stored, float) and isinstance(found, int | float):
        return math.isclose(stored, found, rel_tol=0, abs_tol=allowed)
    return stored == found


def _short(values: Sequence[float | None]) -> str:
    return f"[{', '.join('-' if value is None else f'{value:.6g}' for value in values)}]"
