"""A plan split over campaigns at the same time: no run is in two parts, and none waits for one of another part.

The split follows from preset and plan alone, so that campaigns need not talk to each other: runs that are tied by what
they start from stay together, and such groups, the largest first, go to the part that has the fewest runs so far.
"""

import re
from dataclasses import dataclass

from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.suite.campaign.todo import with_parents
from layerprune.suite.config import Preset
from layerprune.system.paths import RunKey


@dataclass(frozen=True)
class Part:
    """One of `count` parts, from 1 on; the only one is all of the plan."""

    number: int = 1
    count: int = 1

    def label(self, name: str) -> str:
        """The campaign's name, and its part of several."""
        return name if self.count == 1 else f"{name}-part{self.number}of{self.count}"


def parsed(text: str | None) -> Part:
    """A part such as 3/64. Raises LayerpruneError for anything else."""
    if text is None:
        return Part()
    told = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if told is None or int(told[1]) > int(told[2]):
        raise LayerpruneError(f"--part: '{text}' is not a part such as 1/4, which 2/4, 3/4 and 4/4 complete")
    return Part(int(told[1]), int(told[2]))


def runs_in(part: Part, preset: Preset, planned: list[RunKey]) -> list[RunKey]:
    """The part's runs of a plan, in the plan's order."""
    if part.count == 1:
        return planned
    shares: list[list[RunKey]] = [[] for _ in range(part.count)]
    for group in sorted(groups(preset, planned), key=len, reverse=True):
        min(shares, key=len).extend(group)
    own = set(shares[part.number - 1])
    return [key for key in planned if key in own]


def groups(preset: Preset, planned: list[RunKey]) -> list[list[RunKey]]:
    """Planned runs that start from one another, or from the same run, together; by the first of each."""
    tied = {key: {key} for key in with_parents(preset, planned)}
    for key in list(tied):
        for parent in config.prerequisites(preset, key):
            if tied[parent] is not tied[key]:
                tied[parent] |= tied[key]
                tied |= dict.fromkeys(tied[key], tied[parent])
    together: dict[int, list[RunKey]] = {}
    for key in planned:
        together.setdefault(id(tied[key]), []).append(key)
    return list(together.values())
