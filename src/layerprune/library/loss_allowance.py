"""Pruning as far as a stated rise of the validation loss allows: the price adjusts itself.

The rise counts from a reference: the lowest validation loss so far with all remaining sections open, of the network as
it was given and at every check since. So the reference only ever falls. At a check

    rise  = loss with the sections closed that theta would close - reference
    nu   <- nu exp(clip(RATE (1 - rise / allowed), -STRONGEST, STRONGEST)), within FARTHEST times its first value

and a section leaves for good only where the loss without it and without all that went before is at most
`allowed` above the reference. At the end as many sections are closed, lowest theta first, as that permits. Derived.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.measure import evaluating
from layerprune.core.methods.parts.budget import RATE, STRONGEST
from layerprune.errors import LayerpruneError

FARTHEST = 100.0
"""Most that nu leaves its first value by: while loss and price are far from what they will be, it waits there."""


def validated(model: nn.Module, validate: Callable[[], Any]) -> float:
    """What somebody's function finds, with the model in evaluation mode and without gradients; torch's random numbers
    and the model's modes are afterwards as they were. Raises LayerpruneError where that is no number."""
    with evaluating(model), torch.no_grad(), torch.random.fork_rng():
        loss = validate()
    try:
        return float(loss)
    except (TypeError, ValueError, RuntimeError):
        raise LayerpruneError(
            f"ConcurrentPruner: validate() returns the mean validation loss, one number, not {type(loss).__name__}"
        ) from None


class LossAllowance:
    """Takes the place of a budget in the gated method.

    `loss_without` validates the model without sections, given by their places.
    """

    def __init__(self, allowed: float, loss_without: Callable[[frozenset[int]], float]) -> None:
        self.allowed = allowed
        self.reference = math.inf
        self.latest: tuple[float, float, float] | None = None
        """The last check's loss with all sections open, with those closed that theta would close, and the reference."""
        self._moved = 0.0
        """log(nu / first nu)"""
        self._loss_without = loss_without
        self._known: dict[frozenset[int], float] = {}

    def look(self) -> float:
        """Validate with all sections open; returns the loss. To be called whenever weights have changed."""
        self._known.clear()
        loss = self._loss(())
        if loss < self.reference:  # never where it is not a number
            self.reference = loss
        return loss

    def factor(self, theta: Tensor) -> float:
        """By what nu is multiplied at a check."""
        all_open, closed = self.look(), self._loss(place for place, value in enumerate(theta.tolist()) if value < 0.5)
        self.latest = all_open, closed, self.reference
        ease = 1 - (closed - self.reference) / self.allowed
        step = max(-STRONGEST, min(STRONGEST, RATE * ease)) if math.isfinite(ease) else -STRONGEST
        before, farthest = self._moved, math.log(FARTHEST)
        self._moved = max(-farthest, min(farthest, before + step))
        return math.exp(self._moved - before)

    def may_go(self, candidates: Sequence[int], alive: Sequence[int]) -> list[int]:
        """Of these sections those that the loss allows to close; the first come first."""
        there = [place for place in candidates if alive[place]]
        return there if self._fits(there) else self._one_by_one([], there)

    def rounded(self, theta: Tensor, worth: Tensor, alive: Sequence[int]) -> Tensor:
        """0 for as many sections as the loss allows to close, lowest theta first, and of equals what is worth least."""
        all_open = self.look()
        there = [place for place, stays in enumerate(alive) if stays]
        ranked = sorted(there, key=lambda place: (float(theta[place]), float(worth[place])))
        low = [place for place in ranked if float(theta[place]) < 0.5]
        closed = self._one_by_one(low, ranked[len(low) :]) if self._fits(low) else self._one_by_one([], ranked)
        self.latest = all_open, self._loss(closed), self.reference
        return torch.tensor([float(stays and place not in closed) for place, stays in enumerate(alive)]).to(theta)

    def _one_by_one(self, closed: Sequence[int], candidates: Sequence[int]) -> list[int]:
        """Sections that are closed, and each candidate that may be closed besides those before it."""
        found = list(closed)
        for place in candidates:
            if self._fits([*found, place]):
                found.append(place)
        return found

    def _fits(self, closed: Sequence[int]) -> bool:
        return self._loss(closed) - self.reference <= self.allowed

    def _loss(self, closed: Any) -> float:
        key = frozenset(closed)
        if key not in self._known:
            self._known[key] = self._loss_without(key)
        return self._known[key]

    def state(self) -> dict[str, Any]:
        return {"reference": self.reference, "moved": self._moved}

    def load_state(self, state: dict[str, Any]) -> None:
        self.reference, self._moved = state["reference"], state["moved"]
