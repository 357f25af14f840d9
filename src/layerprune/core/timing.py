"""Time of interleaved calls: whatever slows the machine down slows all of them, so that their ratios stay right.

A call has ended when the device has done it. `seconds` is wall time; `milliseconds` of a GPU are by its own clock, from
an event in front of the calls to one behind them.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

Work = Callable[[], object]
CPU = torch.device("cpu")
LEAST_SECONDS = 0.005
"""Least length of one measurement of `milliseconds`: faster calls are repeated within it."""
WARM_UP = 3
"""Calls or turns before the first that counts."""


def seconds(work: Work, device: torch.device = CPU, calls: int = 1) -> float:
    """Seconds that these calls take until the device has finished the last, whatever else it does for other threads.

    Work in another process has a clock of its own, `work.seconds(calls)`.
    """
    if hasattr(work, "seconds"):
        return work.seconds(calls)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return time.perf_counter() - began


def seconds_by_events(work: Work, device: torch.device, calls: int = 1) -> float:
    """The same by the clock of a GPU: from where its stream comes to the first call to where it has done the last."""
    stream = torch.cuda.current_stream(device)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record(stream)
    for _ in range(calls):
        work()
    ended.record(stream)
    ended.synchronize()
    return began.elapsed_time(ended) / 1000


def in_turns(measurements: Sequence[Callable[[], float]], turns: int, warm_up: int = 0) -> list[list[float]]:
    """Results of each measurement turn by turn, without the warm-up; which one goes first alternates."""
    found: list[list[float]] = [[] for _ in measurements]
    for turn in range(-warm_up, turns):
        places = range(len(measurements))
        for place in places if turn % 2 == 0 else reversed(places):
            value = measurements[place]()
            if turn >= 0:
                found[place].append(value)
    return found


@torch.inference_mode()
def milliseconds(works: Sequence[Work], repeats: int, device: torch.device = CPU) -> list[list[float]]:
    """Milliseconds per call of each forward pass, `repeats` measurements each; the passes alternate."""
    return in_turns([_measurement(work, device) for work in works], repeats)


def _measurement(work: Work, device: torch.device) -> Callable[[], float]:
    """Milliseconds per call, over as many calls as the clock needs, after one that refills the caches."""
    calls = _calls_needed(work, device)

    def measure() -> float:
        seconds(work, device)
        timed = seconds_by_events if device.type == "cuda" else seconds
        return 1000 * timed(work, device, calls) / calls

    return measure


def _calls_needed(work: Work, device: torch.device) -> int:
    """Calls that fill LEAST_SECONDS, found after the warm-up."""
    seconds(work, device, WARM_UP)
    return max(1, math.ceil(LEAST_SECONDS / max(seconds(work, device), 1e-6)))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of at least one value."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float(low), float(middle), float(high)
