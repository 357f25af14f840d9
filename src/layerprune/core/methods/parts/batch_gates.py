"""One gate for each section and mini-batch: a closed branch is not computed, so a step costs what is open.

Which branches are computed is control flow, so the host draws, from theta as the last check found it: no step copies
theta from the device. A closed section has no slope, and with batch normalisation, slopes of batches that mix
subnetworks are wrong for a network that meets one at a time (tests/test_batch_gates.py). So Delta comes from the finite
difference: one section a step, flipped for the whole batch in a second forward pass. The batch is its own control
variate, and what the other gates add to the loss cancels. Derived.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from layerprune.core.gates.estimators import FiniteDifference
from layerprune.core.methods.base import Context
from layerprune.core.networks.sections import CLOSED, Gate, Gates, SectionedNetwork
from layerprune.core.seeding import generator


class BatchGates:
    """What is open in each step, and what is flipped; the same in all processes of a run."""

    def __init__(self, network: SectionedNetwork, context: Context, theta: Tensor) -> None:
        self.network = network
        self.context = context
        self.know(theta)

    def know(self, theta: Tensor) -> None:
        """Draw with this theta from now on. Copies to the host."""
        self.theta: list[float] = theta.tolist()

    def start_epoch(self, epoch: int) -> None:
        """Draw the epoch's random numbers: one a section and step, and one that chooses what is flipped."""
        shape = self.context.steps_per_epoch, self.context.sections + 1
        self.uniform = torch.rand(shape, generator=generator("gates", self.context.seed, epoch)).tolist()

    def draw(self, step: int) -> list[Gate]:
        """Gates of a step, None or CLOSED for each section."""
        *uniform, choice = self.uniform[step % self.context.steps_per_epoch]
        alive = [index for index, stays in enumerate(self.network.keep()) if stays]
        self.chosen = alive[int(choice * len(alive))]
        self.drawn = [None if each < theta else CLOSED for each, theta in zip(uniform, self.theta, strict=True)]
        return self.drawn

    def update(self, estimator: FiniteDifference, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        """Flip the chosen section."""
        opened, flipped = self.drawn[self.chosen] is None, list(self.drawn)
        flipped[self.chosen] = CLOSED if opened else None
        other = losses_of(flipped)
        one_hot = torch.zeros_like(estimator.counts[0])
        one_hot[self.chosen] = 1
        estimator.note(one_hot, (losses - other if opened else other - losses).sum(), losses.numel())

    def fill_gradients(self) -> None:
        """Zero gradients for the branches that were not computed: their decay and momentum continue, as J demands."""
        for section, gate in zip(self.network.sections, self.drawn, strict=True):
            if section.alive and gate is CLOSED:
                for parameter in section.branch.parameters():
                    parameter.grad = torch.zeros_like(parameter)
