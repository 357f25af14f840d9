"""What each section adds to the time of a forward pass here and now: for prices and budgets in latency.

The whole network, the network without any removable branch, and for each section the network without its branch are
timed alternately. The shortest time of each counts: whatever else runs on the machine only ever adds to it. What all
sections take together is shared out among them by what the network is faster without each. Measured times depend on the
machine and vary a little: runs that decide by them are not repeatable bit for bit. Derived.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from layerprune.core import timing
from layerprune.core.measure import evaluating
from layerprune.core.networks.sections import Section, SectionedNetwork

REPEATS = 50
LEAST_SHARE = 0.1
"""Of the mean section's: least latency of a section, where noise makes the difference vanish."""


@dataclass(frozen=True)
class SectionLatencies:
    """Milliseconds of the whole network's forward pass, and of each section in it."""

    whole: float
    sections: tuple[float, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"whole_ms": self.whole, "section_ms": list(self.sections)}


def of_network(network: SectionedNetwork, device: torch.device, batch: int) -> SectionLatencies:
    """For batches of this size on the device, in evaluation mode; the network is afterwards as it was."""
    alive = [section for section in network.sections if section.alive]
    whole, none, *without = _times(network, [[], alive, *([each] for each in alive)], device, batch)
    return shared_out(whole, none, without)


def of_whole(network: SectionedNetwork, device: torch.device, batch: int) -> float:
    """Milliseconds of a network as it is."""
    return _times(network, [[]], device, batch)[0]


def _times(
    network: SectionedNetwork, absent: Sequence[Sequence[Section]], device: torch.device, batch: int
) -> list[float]:
    """Milliseconds of the network without each of these sets of sections."""
    images = torch.zeros(batch, *network.input_shape, device=device)  # not random: the run's numbers must not move on

    def timed(sections: Sequence[Section]) -> float:
        with without_branches(sections):
            return timing.seconds(lambda: network(images), device)

    with evaluating(network), torch.inference_mode():
        return shortest([lambda sections=each: timed(sections) for each in absent])


@contextmanager
def without_branches(sections: Sequence[Section]) -> Iterator[None]:
    """Within this context the sections are as they will be once they have been removed."""
    kept = [(each, each.branch, each.activation, each.activation_if_removed) for each in sections]
    for each in sections:
        each.remove_branch()
    try:
        yield
    finally:
        for each, branch, activation, activation_if_removed in kept:
            each.branch, each.activation = branch, activation
            each._activation_if_removed = [activation_if_removed]
            each.note_transparency()


def shared_out(whole: float, none: float, without: Sequence[float]) -> SectionLatencies:
    """From the times of the whole network, of that without all sections, and of that without each."""
    together = max(whole - none, 0.0)
    raw = [max(whole - each, 0.0) for each in without]
    least = LEAST_SHARE * (sum(raw) / len(raw) or 1.0)
    weights = [max(each, least) for each in raw]
    return SectionLatencies(whole, tuple(together * each / sum(weights) for each in weights))


def shortest(measurements: Sequence[Callable[[], float]], repeats: int = REPEATS) -> list[float]:
    """Milliseconds: of each measurement, which gives seconds, the shortest of `repeats` turns."""
    return [1000 * min(times) for times in timing.in_turns(measurements, repeats, timing.WARM_UP)]
