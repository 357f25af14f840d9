"""Sparse structure selection (Huang & Wang, ECCV 2018, arXiv 1707.01213): a scale on every branch, driven to 0.

A scale lambda_l >= 0 multiplies each branch. It never meets the weights' optimizer or a penalty in the loss: with the
same learning rate eta and momentum mu as the weights it takes the accelerated proximal step
    z = soft(lambda - eta g, eta gamma);   v <- z - lambda + mu v;   lambda <- max(0, z + mu v)
Sections at exactly 0 leave at the end (a scale at 0 can revive before); the others' scales fold into their weights.
Deviations: the paper's networks pre-activate; here lambda multiplies whatever branch the architecture has. The authors
train the weights with Nesterov's momentum; here they follow the recipe that all methods share (`training.nesterov`).
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import Gates, SectionedNetwork, scale_branches
from layerprune.core.settings import SparseStructureSettings

VERSION = 1


def proximal_step(
    scale: Tensor, velocity: Tensor, gradient: Tensor, lr: Tensor | float, gamma: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """One accelerated proximal step; returns the new scale and velocity, shapes as given."""
    moved = scale - lr * gradient
    shrunk = torch.sign(moved) * (moved.abs() - lr * gamma).clamp(min=0)
    velocity = shrunk - scale + momentum * velocity
    return (shrunk + momentum * velocity).clamp(min=0), velocity


class Method(TrainingMethod):
    """Scales [L, 1, 1] as gates shared by the batch."""

    aims_to_prune = True

    def __init__(self, settings: SparseStructureSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        scale_branches(network, settings.initial_scale)
        self.scale = torch.ones(context.sections, 1, 1, device=context.device, requires_grad=True)
        self.velocity = torch.zeros_like(self.scale, requires_grad=False)

    def phase(self, step: int) -> Hashable:
        return ()

    def gates(self, step: int, batch: int) -> Gates:
        return self.scale

    def after_backward(self, step: int, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        self.gradient, self.scale.grad = self.scale.grad, None
        self.context.group.average(self.gradient)

    def after_step(self, step: int, lr: Tensor) -> None:
        with torch.no_grad():
            scale, velocity = proximal_step(
                self.scale, self.velocity, self.gradient, lr, self.settings.gamma, self.context.momentum
            )
            self.scale.copy_(scale)
            self.velocity.copy_(velocity)

    def evaluation_gates(self) -> Gates:
        return self.scale.detach()

    def curve(self) -> list[float]:
        return self.scale.flatten().tolist()

    def outcome(self) -> Outcome:
        scale = self.curve()
        return Outcome([int(value > 0) for value in scale], scale, {"scale": scale})

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale.detach(), "velocity": self.velocity}

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.scale.copy_(state["scale"])
        self.velocity.copy_(state["velocity"])
