"""All cases that have golden values, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from . import compare, pieces, runs, store

COMMAND = "python -m tests.golden"


@dataclass(frozen=True)
class Case:
    """Something whose numbers are compared: the file that holds them, and how they are made anew."""

    name: str
    group: str
    versions: dict[str, int]
    settings: str
    make: Callable[[], dict[str, Any]]
    tolerances: compare.Tolerances

    def values(self) -> dict[str, Any]:
        """Its numbers, made now."""
        return store.plain(self.make())


@cache
def all_cases() -> dict[str, Case]:
    """Every case by its name."""
    of_runs = [
        Case(str(key), key.preset, runs.versions(key), runs.settings_of(key), partial(runs.values, key), tolerances)
        for key in runs.all_keys()
        for tolerances in [runs.tolerances(key)]
    ]
    of_pieces = [
        Case(f"pieces/{name}", "pieces", piece.versions, "", piece.make, piece.tolerances)
        for name, piece in pieces.all_pieces().items()
    ]
    return {case.name: case for case in (*of_pieces, *of_runs)}


def complaint(case: Case, stored: dict[str, Any] | None, found: dict[str, Any]) -> str | None:
    """Why a case does not pass; None where it does."""
    if stored is None or stored["settings"] != case.settings:
        return f"{case.name}: there are no golden values for these settings: write them with `{COMMAND}`"
    if stored["versions"] != case.versions:
        return (
            f"{case.name}: versions are {case.versions}, the golden values are of {stored['versions']}: "
            f"write new golden values with `{COMMAND}`"
        )
    lines = list(compare.differences(stored["values"], found, case.tolerances))
    if not lines:
        return None
    return "\n  ".join(
        [
            f"{case.name}: numbers have changed, but no version. If that was meant, raise VERSION in the file of the "
            f"method, architecture or data set (or RESULTS_VERSION in core/version.py for what all share), then write "
            f"new golden values with `{COMMAND}`. If not, the change has a mistake.",
            *lines,
        ]
    )
