"""Paired timing: A and B alternate, so that a machine that slows down slows both; the ratio is taken round by round."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Time of `name` over that of its reference: median and quartiles of the rounds' ratios, and median times in ms."""

    name: str
    ratio: float
    lower: float
    upper: float
    milliseconds: float
    reference_milliseconds: float
    rounds: int
    target: str = ""

    def line(self) -> str:
        """One line of the report."""
        times = f"{self.milliseconds:9.3f} ms / {self.reference_milliseconds:9.3f} ms"
        spread = f"{self.ratio:6.3f} [{self.lower:.3f}, {self.upper:.3f}]"
        return f"{self.name:<62} {spread:<24} {times}  n={self.rounds:<4} {self.target}"


def compare(name: str, work: Work, reference: Work, rounds: int, warmup: int = 3, target: str = "") -> Comparison:
    """Time both in turn, `rounds` times each, after `warmup` unmeasured rounds."""
    pairs = [(_seconds(work), _seconds(reference)) for _ in range(warmup + rounds)][warmup:]
    ratios = [ours / theirs for ours, theirs in pairs]
    lower, middle, upper = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    ours, theirs = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    return Comparison(name, middle, lower, upper, ours, theirs, rounds, target)


def _seconds(work: Work) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
