"""Paired timing: two things are timed in turns, so that a machine that slows down slows both.

A ratio is the median over rounds of second / first within one round; its spread is the interquartile range.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


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


def seconds(work: Work) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(first: Work, second: Work, rounds: int, warm_up: int = 1) -> list[tuple[float, float]]:
    """Seconds of `first` and `second`, a pair a round; who begins changes from round to round."""
    for _ in range(warm_up):
        first(), second()
    pairs = []
    for number in range(rounds):
        if number % 2:
            late = seconds(second)
            pairs.append((seconds(first), late))
        else:
            pairs.append((seconds(first), seconds(second)))
    return pairs


def compare(
    name: str, first: Work, second: Work, rounds: int, target: str = "", note: str = "", warm_up: int = 1
) -> Measurement:
    """second / first; `target` is `<= x` or `>= x`."""
    ratios = [late / early for early, late in alternate(first, second, rounds, warm_up)]
    low, middle, high = quartiles(ratios)
    return Measurement(name, middle, low, high, rounds, target, note)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of at least one value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
