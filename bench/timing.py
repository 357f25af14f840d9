"""Paired timing: two things are timed in turns, so that a machine that slows down slows both.

A ratio is the median over rounds of second / first within one round; its spread is the interquartile range.
"""

from dataclasses import dataclass
from functools import partial

import torch

from layerprune.core.timing import CPU, Work, in_turns, quartiles, seconds


@dataclass(frozen=True)
class Measurement:
    """One line of the report. `ratio`, `low`, `high` are median and quartiles; `target` bounds the ratio."""

    name: str
    ratio: float
    low: float
    high: float
    rounds: int
    target: str = ""
    note: str = ""

    @property
    def meets_target(self) -> bool | None:
        """Whether the median lies within the target; None without a target."""
        if not self.target:
            return None
        bound = float(self.target.split()[1])
        return self.ratio <= bound if self.target.startswith("<=") else self.ratio >= bound


def alternate(
    first: Work, second: Work, rounds: int, warm_up: int = 1, device: torch.device = CPU
) -> list[tuple[float, float]]:
    """Seconds of `first` and `second`, a pair a round; who begins changes from round to round."""
    works = [partial(seconds, work, device) for work in (first, second)]
    return list(zip(*in_turns(works, rounds, warm_up), strict=True))


def compare(
    name: str,
    first: Work,
    second: Work,
    rounds: int,
    target: str = "",
    note: str = "",
    warm_up: int = 1,
    device: torch.device = CPU,
) -> Measurement:
    """second / first; `target` is `<= x` or `>= x`."""
    return of_pairs(name, alternate(first, second, rounds, warm_up, device), target, note)


def of_pairs(name: str, pairs: list[tuple[float, float]], target: str = "", note: str = "") -> Measurement:
    """second / first of what `alternate` gave."""
    low, middle, high = quartiles([second / first for first, second in pairs])
    return Measurement(name, middle, low, high, len(pairs), target, note)
