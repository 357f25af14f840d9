"""GAL, block selection (Lin et al., CVPR 2019, arXiv 1903.09291): soft masks learnt against a discriminator.

The trained dense network is the teacher f_t and the student's start f_s; masks m >= 0 multiply the branches. Search:
    student        mu MSE(f_t, f_s) + BCE(D(f_s), 1) + lambda ||m||_1          (no labels)
    discriminator  BCE(D(f_t), 1) + BCE(D(f_s), 0) + BCE(D(f_s), 1)            (the last term: adversarial regulariser)
D is an MLP 10-128-256-128-1 on the logits. Masks take FISTA steps, projected to m >= 0. Sections with m = 0 leave after
the search; the others' masks stay as constant scales through fine-tuning on the labels and fold into their weights.

The published code has faults, of which `faithful` brings back all: masks start at N(0, 1) instead of 1, so that half
of them fall by chance; the L1 term is taken twice, as a gradient and in the proximal step; D ends in a sigmoid and is
trained with a loss that takes logits; the teacher stays in training mode. Besides, its masks move once an epoch, by
one batch's gradient, instead of in every step.
Deviations: search and fine-tuning share one schedule of the learning rate; masks have a step size of their own.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.measure import output_shape
from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.settings import GalSettings, steps_of
from layerprune.errors import SettingError

VERSION = 1
HIDDEN = (128, 256, 128)


def discriminator(classes: int, source: torch.Generator, with_sigmoid: bool) -> nn.Sequential:
    """D: logits [B, classes] -> [B, 1], weights by He initialisation from `source`."""
    sizes = (classes, *HIDDEN, 1)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=source)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    layers[-1] = nn.Sigmoid() if with_sigmoid else nn.Identity()
    return nn.Sequential(*layers)


def fista_step(
    point: Tensor, last: Tensor, momentum: float, gradient: Tensor, lr: float, penalty: float
) -> tuple[Tensor, Tensor, float]:
    """One step of FISTA on an L1 penalty over the non-negative numbers.

    `point` is where the gradient was taken, `last` the iterate before, `momentum` FISTA's t; returns the three anew.
    """
    iterate = (point - lr * gradient - lr * penalty).clamp(min=0)
    faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    return (iterate + (momentum - 1) / faster * (iterate - last)).clamp(min=0), iterate, faster


class Method(TrainingMethod):
    """Masks [L, 1, 1], teacher and discriminator."""

    aims_to_prune = True
    supports_process_groups = False  # the discriminator's gradients are not averaged

    def __init__(self, settings: GalSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        self.search = self.check_interval = steps_of(settings.search, context.steps_per_epoch)
        if self.search < 1:
            raise SettingError(f"settings.search: {settings.search} leaves no step to learn the masks in")
        self.teacher = context.teacher.train(settings.faithful)
        self.mask = self._first_masks().requires_grad_()
        self.last = self.mask.detach().clone()
        self.momentum = 1.0
        self.judge = discriminator(_classes(network), generator("discriminator", context.seed), settings.faithful)
        self.judge.to(context.device)
        self.judge_optimizer = torch.optim.SGD(self.judge.parameters(), settings.discriminator_lr, momentum=0.9)
        self.searching = True

    def _first_masks(self) -> Tensor:
        shape = (self.context.sections, 1, 1)
        if not self.settings.faithful:
            return torch.ones(shape, device=self.context.device)
        return torch.randn(shape, generator=generator("masks", self.context.seed)).to(self.context.device)

    def gates(self, step: int, batch: int) -> Gates:
        self.searching = step < self.search
        # Three passes of the discriminator, forward and backward: for the student, on the teacher, on the student.
        judging = 9 * sum(layer.weight.numel() for layer in self.judge if isinstance(layer, nn.Linear))
        self.macs_beside = self.context.teacher_macs + judging if self.searching else 0
        return self.mask if self.searching else self.mask.detach()

    def losses(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        if not self.searching:
            return super().losses(images, logits, labels)
        with torch.no_grad():
            self.target = self.teacher(images).float()
        self.answer = logits.detach()
        distance = (self.target - logits).square().mean(1)
        return self.settings.imitation * distance + _cross_entropy(self.judge(logits), 1.0)

    def penalty(self, step: int) -> Tensor | None:
        if self.settings.faithful and self.searching:
            return self.settings.penalty * self.mask.abs().sum()
        return None

    def after_backward(self, step: int, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        if not self.searching:
            return
        self.gradient, self.mask.grad = self.mask.grad, None
        self.judge_optimizer.zero_grad()  # what the student's loss left there
        own = self.judge(self.answer)
        parts = _cross_entropy(self.judge(self.target), 1.0), _cross_entropy(own, 0.0), _cross_entropy(own, 1.0)
        sum(part.mean() for part in parts).backward()
        self.judge_optimizer.step()

    def after_step(self, step: int, lr: Tensor) -> None:
        moves = not self.settings.faithful or (step + 1) % self.context.steps_per_epoch == 0
        if not (self.searching and moves):
            return
        size = lr * self.settings.mask_lr
        with torch.no_grad():
            point, self.last, self.momentum = fista_step(
                self.mask, self.last, self.momentum, self.gradient, size, self.settings.penalty
            )
            self.mask.copy_(point)

    def removals(self, step: int) -> list[int]:
        if step != self.search:
            return []
        with torch.no_grad():
            self.mask.copy_(self.last)  # the iterate, not the point ahead of it where gradients were taken
        return [index for index, value in enumerate(self.curve()) if value <= 0]

    def evaluation_gates(self) -> Gates:
        return self.mask.detach()

    def curve(self) -> list[float]:
        return self.mask.flatten().tolist()

    def outcome(self) -> Outcome:
        mask = self.curve()
        return Outcome(self.network.keep(), mask, {"mask": mask})

    def state(self) -> dict[str, Any]:
        return {
            "mask": self.mask.detach(),
            "last": self.last,
            "momentum": self.momentum,
            "judge": self.judge.state_dict(),
            "judge_optimizer": self.judge_optimizer.state_dict(),
            "teacher": self.teacher.state_dict() if self.settings.faithful else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.mask.copy_(state["mask"])
        self.last.copy_(state["last"])
        self.momentum = state["momentum"]
        self.judge.load_state_dict(state["judge"])
        self.judge_optimizer.load_state_dict(state["judge_optimizer"])
        if state["teacher"] is not None:
            self.teacher.load_state_dict(state["teacher"])


def _classes(network: SectionedNetwork) -> int:
    return output_shape(network, network.input_shape)[0]


def _cross_entropy(judged: Tensor, target: float) -> Tensor:
    """Binary cross-entropy [B] of the discriminator's output [B, 1] to one target."""
    return functional.binary_cross_entropy_with_logits(
        judged, torch.full_like(judged, target), reduction="none"
    ).squeeze(1)
