"""What a quantity of a claim was on one network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from layerprune.analysis import statistics
from layerprune.analysis.frames import Study


@dataclass(frozen=True)
class Sample:
    """One value a seed, or, where `seeds` is given, one number that summarises that many seeds.

    `against` names what was compared with: such samples of one network are tested together. `at` names the point of a
    curve that the values are of. `interval` is the 95 % interval of a number that summarises seeds; without one it
    is taken as it is. `is_share`: values, and so their mean, lie between 0 and 1.
    """

    arch: str
    values: tuple[float, ...]
    against: str = ""
    seeds: int | None = None
    at: str = ""
    interval: tuple[float, float] | None = None
    is_share: bool = False

    @property
    def n(self) -> int:
        """Seeds behind the values."""
        return len(self.values) if self.seeds is None else self.seeds


def share_of_events(arch: str, counts: Sequence[tuple[int, int]]) -> Sample:
    """The share of events among all that could have been one, from a pair (events, chances) a seed.

    With the exact interval of a share (Clopper and Pearson), as if chances were independent: where no seed has an event
    an interval over seeds has no width, however few chances there were. Seeds without a chance say nothing.
    """
    there = [pair for pair in counts if pair[1]]
    if not there:
        return Sample(arch, ())
    events, chances = (sum(each) for each in zip(*there, strict=True))
    return Sample(arch, (events / chances,), seeds=len(there), interval=statistics.interval_of_share(events, chances))


@lru_cache(maxsize=16)  # nearly every quantity asks
def gated_runs(study: Study) -> list[tuple[str, pd.DataFrame]]:
    """Of every network its gated runs with default settings that reached an end, compared with dense; maybe none."""
    compared = statistics.compare_to_dense(study.runs)
    chosen = compared[(compared["method"] == "gated") & (compared["variant"] == "default")]
    return [(arch, runs[statistics.counted(runs)]) for arch, runs in chosen.groupby("arch", sort=False)]
