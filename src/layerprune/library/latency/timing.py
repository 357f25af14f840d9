"""Wall time of things that take turns: warm-up, measurements, quartiles."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

Work = Callable[[int], None]
"""Makes so many forward passes, and returns when the last one is done."""

LEAST_SECONDS = 0.005
"""Least length of one measurement: what is faster is called several times in it."""
WARM_UP = 3


@torch.inference_mode()
def milliseconds(works: Sequence[Work], repeats: int) -> list[list[float]]:
    """Milliseconds of one call, `repeats` for each; they take turns, and who begins changes."""
    calls = [_calls_needed(work) for work in works]
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeats):
        places = range(len(works))
        for place in places if turn % 2 == 0 else reversed(places):
            _seconds(works[place], 1)  # so that the caches hold this one's again
            times[place].append(1000 * _seconds(works[place], calls[place]) / calls[place])
    return times


def _calls_needed(work: Work) -> int:
    """Calls that fill LEAST_SECONDS, found after the warm-up."""
    _seconds(work, WARM_UP)
    return max(1, math.ceil(LEAST_SECONDS / max(_seconds(work, 1), 1e-6)))


def _seconds(work: Work, calls: int) -> float:
    began = time.perf_counter()
    work(calls)
    return time.perf_counter() - began


def quartiles(taken: Sequence[float]) -> dict[str, float]:
    """Median and quartiles by the names of their columns."""
    low, middle, high = (round(float(value), 5) for value in np.percentile(taken, (25, 50, 75)))
    return {"median_ms": middle, "low_ms": low, "high_ms": high}
