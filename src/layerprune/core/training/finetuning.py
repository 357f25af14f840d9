"""Training on after a score: plain, with distillation, and with sections that go one at a time.

    loss = (1 - a) CE + a T^2 KL(teacher || student),  both softened by the temperature T = 4 (Hinton et al. 2015)
Iterative removal spends the same steps as one-shot removal: the sections that go are spread evenly over them, or over a
share of them (`removed_by`), the first before the first step, each chosen by scores of what is then left.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.base import Context, Outcome, TrainingMethod, keep_highest
from layerprune.core.networks.sections import SectionedNetwork

TEMPERATURE = 4.0

Ranking = Callable[[SectionedNetwork], tuple[list[float], int]]
"""Scores of the alive sections and the multiply-adds that scoring took."""


class Finetuning(TrainingMethod):
    """Fine-tuning of a network that has lost sections, down to `context.keep_count` where a ranking is given."""

    def __init__(
        self, settings: Any, network: SectionedNetwork, context: Context, ranking: Ranking | None = None
    ) -> None:
        super().__init__(settings, network, context)
        self.distill = getattr(settings, "distill", 0.0)
        self.macs_beside = context.teacher_macs if self.distill else 0
        self.ranking = ranking
        self.spent = 0
        self.rounds: list[list[float]] = []
        if ranking is not None:
            self.to_go = sum(network.keep()) - (context.keep_count or 0) + 1  # one has gone already
            self.check_interval = max(1, int(settings.removed_by * context.steps_total) // self.to_go)

    def phase(self, step: int) -> Hashable:
        return ()

    def losses(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        plain = super().losses(images, logits, labels)
        if not self.distill:
            return plain
        with torch.no_grad():
            target = functional.log_softmax(self.context.teacher(images).float() / TEMPERATURE, 1)
        softened = functional.log_softmax(logits / TEMPERATURE, 1)
        gap = functional.kl_div(softened, target, reduction="none", log_target=True).sum(1)
        return (1 - self.distill) * plain + self.distill * TEMPERATURE**2 * gap

    def removals(self, step: int) -> list[int]:
        self.spent = 0
        gone, alive = [], [index for index, stays in enumerate(self.network.keep()) if stays]
        surplus = len(alive) - self.context.keep_count
        if surplus > 0:
            scores, self.spent = self.ranking(self.network)
            self.rounds.append(scores)
            due = surplus if step == self.context.steps_total else 1
            stays = keep_highest(scores, len(alive) - due)
            gone = [index for index, kept in zip(alive, stays, strict=True) if not kept]
        return gone

    def macs_of_removals(self) -> int:
        return self.spent

    def outcome(self) -> Outcome:
        return Outcome(self.network.keep(), details={"scores_by_round": self.rounds} if self.ranking else {})

    def state(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state(self, state: dict[str, Any]) -> None:
        self.rounds = list(state["rounds"])
