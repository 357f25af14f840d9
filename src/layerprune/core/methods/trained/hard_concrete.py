"""Hard-concrete L0 gates (Louizos, Welling, Kingma, ICLR 2018), one gate a section and batch: an adaptation.

    mean loss + sum_l P(z_l != 0) (lambda c_l + d/2 ||W_l||^2),   lambda rising linearly over the first part of training
d is the weight decay of the recipe: that of a gated branch's weights W_l is multiplied by their gate's P(z_l != 0), and
their norm pushes the gate, as where the paper combines L0 with L2. With `decay: full` they shrink like all other
weights, and the gate does not feel them.
Sections whose deterministic gate is exactly 0 leave at the end; the others' gates fold into their weights.
Deviations: SGD with the weights' momentum on log_a (no weight decay), no averaging of parameters.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.decay import under_decay
from layerprune.core.gates import hard_concrete
from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import Gates, Section, SectionedNetwork, scale_branches
from layerprune.core.settings import HardConcreteSettings

VERSION = 1


class Method(TrainingMethod):
    """log_a [L, 1, 1] on the device."""

    aims_to_prune = True

    def __init__(self, settings: HardConcreteSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        scale_branches(network, settings.initial_scale)
        shape = (context.sections, 1, 1)
        self.log_a = torch.full(shape, settings.log_a0, device=context.device, requires_grad=True)
        self.velocity = torch.zeros(shape, device=context.device)
        self.costs = context.costs(settings.cost).view(shape)
        self.ramp_steps = max(1, round(settings.ramp * context.steps_total))
        self.strength = torch.zeros((), device=context.device)
        self.decayed = [self._under_decay(section) for section in network.sections]

    def start_epoch(self, epoch: int) -> None:
        self._reseed(epoch)

    def phase(self, step: int) -> Hashable:
        return ()

    def prepare(self, step: int) -> None:
        self.strength.fill_(self.settings.penalty * min(1.0, (step + 1) / self.ramp_steps))

    def gates(self, step: int, batch: int) -> Gates:
        return hard_concrete.sample(self.log_a, self.noise)

    def _under_decay(self, section: Section) -> list[nn.Parameter]:
        """A branch's weights whose decay the gate scales."""
        if self.settings.decay == "full" or self.context.weight_decay == 0:
            return []
        return under_decay(section.branch.parameters(), self.context.decayed)

    def penalty(self, step: int) -> Tensor:
        opened = hard_concrete.open_probability(self.log_a)
        price = self.strength * (self.costs * opened).sum()
        if not any(self.decayed):
            return price
        norms = torch.stack([torch.stack([each.square().sum() for each in weights]).sum() for weights in self.decayed])
        return price + self.context.weight_decay / 2 * (opened.flatten() * norms).sum()

    def after_backward(self, step: int, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        with torch.no_grad():  # the optimizer will add the whole decay; what is due is in the gradient already
            for weight in (each for weights in self.decayed for each in weights):
                weight.grad.sub_(weight, alpha=self.context.weight_decay)
        self.context.group.average(self.log_a.grad)
        self.velocity.mul_(self.context.momentum).add_(self.log_a.grad)
        self.log_a.grad = None

    def after_step(self, step: int, lr: Tensor) -> None:
        with torch.no_grad():
            # The paper clamps log_a to [log 1e-2, log 1e2] after every step.
            self.log_a.sub_(self.velocity * (lr * self.settings.gate_lr)).clamp_(-4.605, 4.605)

    def evaluation_gates(self) -> Gates:
        return hard_concrete.deterministic(self.log_a.detach())

    def curve(self) -> list[float]:
        return hard_concrete.open_probability(self.log_a.detach()).flatten().tolist()

    def outcome(self) -> Outcome:
        gate = self.evaluation_gates().flatten().tolist()
        return Outcome([int(value > 0) for value in gate], gate, {"gate": gate, "log_a": self.log_a.flatten().tolist()})

    def state(self) -> dict[str, Any]:
        return {"log_a": self.log_a.detach(), "velocity": self.velocity}

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.log_a.copy_(state["log_a"])
        self.velocity.copy_(state["velocity"])
