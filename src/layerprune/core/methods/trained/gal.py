"""GAL, block selection (Lin et al., CVPR 2019, arXiv 1903.09291): soft masks learnt against a discriminator.

The trained dense network is the teacher f_t and the student's start f_s; masks m >= 0 multiply the branches. Search:
    student        mu MSE(f_t, f_s) + BCE(D(f_s), 1) + lambda ||m||_1          (no labels)
    discriminator  BCE(D(f_t), 1) + BCE(D(f_s), 0) + BCE(D(f_s), 1)            (the last term: adversarial regulariser)
D is an MLP 10-128-256-128-1 on the logits. Masks take FISTA steps, projected to m >= 0. Sections with m = 0 leave after
the search; the others' masks stay as constant scales through fine-tuning on the labels and fold into their weights.

This is the paper's objective, corrected, and so balanced differently from the published code, in which the
discriminator is in effect absent: at the start the ratio of the adversarial gradient to that of imitation is 1.8 here,
and 1.5e-5 there. `faithful` is the published code: masks start at N(0, 1) instead of 1, so that half of them fall by
chance; the L1 term is taken twice, as a gradient and in the proximal step; D has no nonlinearity between its layers,
starts at N(0, 0.01), ends in a sigmoid and is trained with a loss that takes logits, with a weight decay of 2e-4 and a
rate that falls to a tenth after each 30 % of the search, and moves before the student does; the teacher stays in
training mode; the masks move at every 200th step of an epoch (in a shorter one at its last), by one batch's gradient,
which is taken at FISTA's iterate and not at the point ahead of it. Deviations: search and fine-tuning share one
schedule of the learning rate; masks have a step size of their own.
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

VERSION = 1  # `faithful` has changed since, of which no record was kept
HIDDEN = (128, 256, 128)
MASK_STEPS = 200
PUBLISHED_DECAY = 2e-4
"""Of the discriminator's weights, in the published code."""


def discriminator(classes: int, source: torch.Generator, faithful: bool) -> nn.Sequential:
    """D: logits [B, classes] -> [B, 1], weights from `source` by He initialisation; `faithful`: as published."""
    layers: list[nn.Module] = []
    for before, after in pairwise((classes, *HIDDEN, 1)):
        layer = nn.Linear(before, after)
        if faithful:
            nn.init.normal_(layer.weight, 0.0, 0.01, generator=source)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=source)
        nn.init.zeros_(layer.bias)
        layers += [layer] if faithful else [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Sigmoid()) if faithful else nn.Sequential(*layers[:-1], nn.Identity())


def fista_step(
    point: Tensor, last: Tensor, momentum: float, gradient: Tensor, lr: float, penalty: float
) -> tuple[Tensor, Tensor, float]:
    """One step of FISTA on an L1 penalty over the non-negative numbers.

    `point` is where the gradient was taken, `last` the iterate before, `momentum` FISTA's t; returns the three anew.
    """
    iterate = (point - lr * gradient - lr * penalty).clamp(min=0)
    faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    return (iterate + (momentum - 1) / faster * (iterate - last)).clamp(min=0), iterate, faster


def published_fista_step(
    iterate: Tensor, last: Tensor, momentum: float, gradient: Tensor, lr: float, penalty: float
) -> tuple[Tensor, Tensor, float]:
    """The published code's: the gradient is that at the iterate, the step starts ahead of it.

    The first `momentum` is 0, its `last` the iterate itself. Returns the three anew.
    """
    faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    point = iterate + (momentum - 1) / faster * (iterate - last)
    return (point - lr * gradient - lr * penalty).clamp(min=0), iterate, faster


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
        self.momentum = 0.0 if settings.faithful else 1.0
        self.judge = discriminator(_classes(network), generator("discriminator", context.seed), settings.faithful)
        self.judge.to(context.device)
        decay = PUBLISHED_DECAY if settings.faithful else 0.0
        self.judge_optimizer = torch.optim.SGD(
            self.judge.parameters(), settings.discriminator_lr, 0.9, weight_decay=decay
        )
        self.searching = True

    def _first_masks(self) -> Tensor:
        shape = (self.context.sections, 1, 1)
        if not self.settings.faithful:
            return torch.ones(shape, device=self.context.device)
        return torch.randn(shape, generator=generator("masks", self.context.seed)).to(self.context.device)

    def gates(self, step: int, batch: int) -> Gates:
        self.searching = step < self.search
        if self.settings.faithful:
            rate = self.settings.discriminator_lr * 0.1 ** (10 * step // (3 * self.search))
            self.judge_optimizer.param_groups[0]["lr"] = rate
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
        if self.settings.faithful:
            self._move_judge()
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
        if not self.settings.faithful:
            self._move_judge()

    def _move_judge(self) -> None:
        self.judge_optimizer.zero_grad()  # what the student's loss left there
        own = self.judge(self.answer)
        parts = _cross_entropy(self.judge(self.target), 1.0), _cross_entropy(own, 0.0), _cross_entropy(own, 1.0)
        sum(part.mean() for part in parts).backward()
        self.judge_optimizer.step()

    def _masks_move(self, step: int) -> bool:
        if not self.settings.faithful:
            return True
        return (step % self.context.steps_per_epoch + 1) % min(MASK_STEPS, self.context.steps_per_epoch) == 0

    def after_step(self, step: int, lr: Tensor) -> None:
        if not (self.searching and self._masks_move(step)):
            return
        size = lr * self.settings.mask_lr
        move = published_fista_step if self.settings.faithful else fista_step
        with torch.no_grad():
            point, self.last, self.momentum = move(
                self.mask.clone(), self.last, self.momentum, self.gradient, size, self.settings.penalty
            )
            self.mask.copy_(point)

    def removals(self, step: int) -> list[int]:
        if step != self.search:
            return []
        if not self.settings.faithful:
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
