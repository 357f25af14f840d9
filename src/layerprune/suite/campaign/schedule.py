"""Which run comes next, and how a whole campaign would proceed: pure functions of forecasts. Times are seconds."""

import heapq
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from layerprune.system.paths import RunKey

Parents = Mapping[RunKey, Set[RunKey]]


@dataclass(frozen=True)
class Slot:
    """A run's place in a campaign, from its begin to its end."""

    key: RunKey
    begin: float
    end: float


def choose(
    waiting: Sequence[RunKey],
    parents: Parents,
    unmade: Set[RunKey],
    seconds: Callable[[RunKey], float | None],
    left: float,
    fill: bool = False,
) -> RunKey | None:
    """The first run that starts from nothing unmade and ends in the time left; None if there is none.

    A run without a forecast (None) is chosen as if it fitted: somebody has to measure it. With `fill` the first run
    that could start is chosen where none fits.
    """
    ready = [key for key in waiting if not parents[key] & unmade]
    fitting = (key for key in ready if (took := seconds(key)) is None or took <= left)
    return next(fitting, ready[0] if fill and ready else None)


def simulate(
    runs: Sequence[RunKey],
    parents: Parents,
    seconds: Mapping[RunKey, float],
    jobs: int,
    budget: float,
    fill: bool = False,
) -> list[Slot]:
    """Runs in the order in which they would start; one that ends after the budget is only begun in it."""
    waiting, running, slots, now = list(runs), [], [], 0.0
    while True:
        while len(running) < jobs and now < budget:
            unmade = {*waiting, *(key for _, key in running)}
            key = choose(waiting, parents, unmade, seconds.get, budget - now, fill)
            if key is None:
                break
            waiting.remove(key)
            slots.append(Slot(key, now, now + seconds[key]))
            heapq.heappush(running, (now + seconds[key], key))
        if not running:
            return slots
        now, _ = heapq.heappop(running)
