"""Sections that are about to leave are measured first: opened and closed on a few batches of the training.

Delta_l = E[C | xi_l = 1] - E[C | xi_l = 0], all other gates as the step drew them, by two forward passes a batch. It
does not use slopes, so it has none of their bias; every pass counts towards the training cost. A section is measured in
the steps after the check that would remove it, and decided at the first check with enough batches. Derived.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from layerprune.core.networks.sections import CLOSED, Gate, Gates
from layerprune.system.process_group import ProcessGroup


class Confirmation:
    """Sums over `batches` batches for each section that is asked about; the host knows which these are."""

    def __init__(self, batches: int, sections: int, device: torch.device, group: ProcessGroup) -> None:
        self.batches = batches
        self.group = group
        self.measured: dict[int, int] = {}
        """Sections that are asked about, with the batches seen so far."""
        self.sums = torch.zeros(2, sections, device=device)
        """Of each section the difference of losses, and the examples."""
        self.notes: list[dict[str, Any]] = []

    @property
    def busy(self) -> bool:
        """Whether the next step has something to measure."""
        return any(count < self.batches for count in self.measured.values())

    def ask(self, sections: Iterable[int]) -> None:
        """Measure these and no others; batches they have already seen count."""
        self.measured = {index: self.measured.get(index, 0) for index in sections}
        for index, count in self.measured.items():
            if count == 0:
                self.sums[:, index] = 0

    def take_in(self, gates: Sequence[Gate], losses_of: Callable[[Gates], Tensor]) -> None:
        """Measure on the present batch, under the step's gates, one [B, 1] a section."""
        asked = [index for index, count in self.measured.items() if count < self.batches]
        for index in asked:
            opened, closed = (losses_of(_with(gates, index, gate)) for gate in (None, CLOSED))
            new = torch.stack([(opened - closed).sum(), torch.full_like(opened[0], len(opened))])
            self.group.add_up(new)
            self.sums[:, index] += new
            self.measured[index] += 1

    def has(self, index: int) -> bool:
        """Whether the section has been measured on as many batches as asked."""
        return self.measured.get(index) == self.batches

    def refused(self, step: int, candidates: Sequence[int], prices: Tensor) -> list[int]:
        """The candidates whose measured worth covers their price [L]. All that were measured are noted and no longer
        measured.
        """
        delta, found = self.sums[0] / self.sums[1].clamp(min=1), []
        for index in (each for each in candidates if self.measured.get(each, 0) > 0):
            note = {"step": step, "section": index, "delta": float(delta[index]), "price": float(prices[index])}
            leaves = note["delta"] + note["price"] > 0
            self.notes.append(note | {"leaves": leaves})
            found += [] if leaves else [index]
            del self.measured[index]
        return found

    def state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"measured": self.measured, "sums": self.sums, "notes": self.notes}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.measured, self.notes = dict(state["measured"]), list(state["notes"])
        self.sums.copy_(state["sums"])


def _with(gates: Sequence[Gate], index: int, gate: Gate) -> list[Gate]:
    return [*gates[:index], gate, *gates[index + 1 :]]
