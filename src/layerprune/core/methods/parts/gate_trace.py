"""A trace of gated training, noted at every check, for the experiments on claims C5 and C7.

Of each section theta, the norm of its branch's weights and, where the recipe decays matrices alone, that of its
matrices, the running estimate of Delta, the norm of its mean gradient since the last check, and what its presence
lowers the loss of the present batch by, the others being theta rounded. Of the whole the mean loss since the last
check, and that of the present batch twice: under gates drawn, and of the network which theta, rounded, stands for.
Where only a share of the batch has met such gates, the difference between the two is that share's: the same images
under both, whose own difficulty cancels. All of it is plain data; the analysis interprets it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.decay import under_decay
from layerprune.core.networks.sections import Gates, SectionedNetwork

DIGITS = 5
"""Significant digits that are kept."""


class GateTrace:
    """Notes of one training; sections that are gone have None. `decayed`: the weights under weight decay, as in the
    settings of training."""

    def __init__(self, network: SectionedNetwork, decayed: str = "all") -> None:
        self.network = network
        self.notes: dict[str, list] = {
            name: []
            for name in ("step", "lr", "loss", "drawn", "rounded", "theta", "norm", "delta", "gradient", "benefit")
        }
        if decayed == "matrices":
            self.notes["decayed"] = []
        self.gradients = [[torch.zeros_like(each) for each in parameters] for parameters in self._parameters()]
        self.loss_sum = torch.zeros((), device=next(network.parameters()).device)
        self.steps = 0
        self.benefits: Tensor | None = None

    def _parameters(self) -> list[list[nn.Parameter]]:
        return [list(section.branch.parameters()) if section.alive else [] for section in self.network.sections]

    def add(self, losses: Tensor) -> None:
        """One step's losses and gradients."""
        self.loss_sum += losses.mean()
        self.steps += 1
        for sums, parameters in zip(self.gradients, self._parameters(), strict=True):
            for total, parameter in zip(sums, parameters, strict=False):  # none where the branch is gone
                if parameter.grad is not None:
                    total.add_(parameter.grad)

    def look(self, theta: Tensor, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        """What theta, rounded, and each section are worth to the present batch; for the next `note`. `losses`: of the
        batch's first images, those that met gates drawn."""
        rounded, self.benefits = benefits(theta, self.network.keep(), losses_of)
        self.rounded = rounded.mean()
        self.drawn = self.rounded + (losses - rounded[: losses.numel()]).mean()

    def note(self, step: int, lr: float, theta: Tensor, delta: Tensor) -> None:
        """Write down a check, before sections leave, and start the next interval. Copies to the host."""
        alive = self.network.keep()
        found = {
            "step": step,
            "lr": _short(lr),
            "loss": _short(float(self.loss_sum) / self.steps),
            "drawn": _short(float(self.drawn)),
            "rounded": _short(float(self.rounded)),
            "theta": _where(alive, theta.tolist()),
            "norm": _where(alive, [_norm(each) for each in self._parameters()]),
            "delta": _where(alive, delta.tolist()),
            "gradient": _where(alive, [_norm(each) / self.steps for each in self.gradients]),
            "benefit": _where(alive, self.benefits.tolist()),
        }
        if "decayed" in self.notes:
            matrices = [under_decay(parameters, "matrices") for parameters in self._parameters()]
            found["decayed"] = _where(alive, [_norm(each) for each in matrices])
        for name, value in found.items():
            self.notes[name].append(value)
        for each in self.gradients:
            for total in each:
                total.zero_()
        self.loss_sum.zero_()
        self.steps, self.benefits = 0, None

    def state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"notes": self.notes, "gradients": self.gradients, "loss_sum": self.loss_sum, "steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.notes, self.steps = state["notes"], state["steps"]
        self.loss_sum.copy_(state["loss_sum"])
        for own, stored in zip(self.gradients, state["gradients"], strict=True):
            for total, value in zip(own, stored, strict=True):
                total.copy_(value)


@torch.no_grad()
def benefits(theta: Tensor, alive: Sequence[int], losses_of: Callable[[Gates], Tensor]) -> tuple[Tensor, Tensor]:
    """Losses [B] of the network that is open where theta is 1/2 or more, and by how much each section lowers their mean
    when it opens [L]."""
    base = (theta >= 0.5).to(theta.dtype).view(-1, 1, 1)
    losses = losses_of(base)
    found = torch.zeros_like(theta)
    for index, stays in enumerate(alive):
        if stays:
            flipped = base.clone()
            flipped[index] = 1 - flipped[index]
            found[index] = (losses_of(flipped).mean() - losses.mean()) * (2 * base[index, 0, 0] - 1)
    return losses, found


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([each.detach().square().sum() for each in tensors]).sum().sqrt()) if tensors else 0.0


def _where(alive: Sequence[int], values: Sequence[float]) -> list[float | None]:
    return [_short(value) if stays else None for stays, value in zip(alive, values, strict=True)]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
