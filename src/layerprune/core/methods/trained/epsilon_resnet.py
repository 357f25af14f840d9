"""epsilon-ResNet (Yu, Yu, Ramalingam, CVPR 2018, arXiv 1804.01661): branches with small responses are discarded.

    y = S(x) + w F(x),   w = 0 where |F| <= epsilon for all responses of the whole mini-batch, else 1 (no gradient in w)
A discarded branch gets no gradient, so weight decay shrinks it; discarded without a break for `patience`, it leaves.
It needs branches without a closing batch norm, which would blow F up again whatever its weights.
Deviations: no side classifier; no restarts of the schedule after a discard (they spend up to ten times the budget); as
in the authors' last code nothing is discarded at first (`start`); evaluation takes the last training step's w.
"""

from collections.abc import Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.settings import EpsilonResnetSettings, steps_of

VERSION = 1
REQUIRES = "open-branches"


class Method(TrainingMethod):
    """For how many steps each section has been discarded without a break, [L] on the device."""

    aims_to_prune = True
    supports_process_groups = False  # a branch is small only where it is for the whole batch, which no process sees

    def __init__(self, settings: EpsilonResnetSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        self.discarded = torch.zeros(context.sections, device=context.device)
        self.begin = round(settings.start * context.steps_total)
        self.patience = steps_of(settings.patience, context.steps_per_epoch)
        self.check_interval = settings.check_interval

    def phase(self, step: int) -> Hashable:
        return step < self.begin

    def gates(self, step: int, batch: int) -> Gates:
        if step < self.begin:
            return None
        return [partial(self._gate, index) for index in range(self.context.sections)]

    def _gate(self, index: int, responses: Tensor) -> Tensor:
        """w [1, 1] of a branch's output; notes it without a copy to the host."""
        open_ = (responses.detach().abs().amax() > self.settings.epsilon).to(responses.dtype)
        self.discarded[index].add_(1).mul_(1 - open_.to(self.discarded.dtype))
        return open_.view(1, 1)

    def removals(self, step: int) -> list[int]:
        long = (self.discarded >= self.patience).tolist()
        return [index for index, yes in enumerate(long) if yes and self.network.sections[index].alive]

    def evaluation_gates(self) -> Gates:
        return (self.discarded == 0).to(torch.float32).view(-1, 1, 1)

    def curve(self) -> list[float]:
        return self.evaluation_gates().flatten().tolist()

    def outcome(self) -> Outcome:
        opened = self.curve()
        return Outcome([int(value and stays) for value, stays in zip(opened, self.network.keep(), strict=True)])

    def state(self) -> dict[str, Any]:
        return {"discarded": self.discarded}

    def load_state(self, state: dict[str, Any]) -> None:
        self.discarded.copy_(state["discarded"])
