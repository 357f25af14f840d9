"""Paired timing: two things are timed in turns, so that a machine that slows down slows both.

A ratio is the median over rounds of second / first within one round; its spread is the interquartile range.
"""

from dataclasses import dataclass
from functools import partial

from layerprune.core.timing import Work, in_turns, quartiles, seconds


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


def alternate(first: Work, second: Work, rounds: int, warm_up: int = 1) -> list[tuple[float, float]]:
    """Seconds of `first` and `second`, a pair a round; who begins changes from round to round."""
    return list(zip(*in_turns([partial(seconds, work) for work in (first, second)], rounds, warm_up), strict=True))


def compare(
    name: str, first: Work, second: Work, rounds: int, target: str = "", note: str = "", warm_up: int = 1
) -> Measurement:
    """second / first; `target` is `<= x` or `>= x`."""
    ratios = [late / early for early, late in alternate(first, second, rounds, warm_up)]
    low, middle, high = quartiles(ratios)
    return Measurement(name, middle, low, high, rounds, target, note)
