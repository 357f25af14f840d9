"""What a method is: one contract for each of three families.

A training method is a class `Method(TrainingMethod)` in methods/trained/<slug>.py: it says what multiplies the
branches in each step and which sections go. A score method is a function in methods/scores/<slug>.py,
    score(model, batches) -> Tensor[L]
and nothing else; the higher the score, the longer the section stays. It sees batches (images, labels) of the training
split, or of the validation split where its module says LOOKS_AT = "validation". One with knobs of its own takes them as
a third argument `settings`, whose absence means the defaults. A score method that does not simply `keep_highest` has
besides
    choose(scores, count, settings) -> keep list
A control is a function
    plan(settings, question) -> ControlPlan
in methods/controls/<slug>.py: which sections, from which start, for how long.

A module that works with some networks only says REQUIRES = "...", one of the words of methods.REQUIREMENTS.
"""

import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.data.batches import steps_per_epoch
from layerprune.core.measure import count_macs, section_macs, section_params
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.seeding import stream_seed
from layerprune.core.settings import TrainingSettings
from layerprune.errors import SettingError
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Context:
    """What a training method knows of its run."""

    examples: int
    batch_size: int
    steps_per_epoch: int
    steps_total: int
    seed: int
    device: torch.device
    section_macs: tuple[int, ...]
    section_params: tuple[int, ...]
    momentum: float = 0.0
    weight_decay: float = 0.0
    decayed: str = "all"
    """Which weights decay, as in the training's settings."""
    label_smoothing: float = 0.0
    keep_count: int | None = None
    """Sections to keep where the settings say `matched` or a number; None: the method decides."""
    teacher: SectionedNetwork | None = None
    """The trained dense network, where the run starts from it."""
    teacher_macs: int = 0
    group: ProcessGroup = SINGLE_PROCESS
    """The processes that share the run."""

    @classmethod
    def of(
        cls,
        network: SectionedNetwork,
        examples: int,
        training: TrainingSettings,
        steps_total: int,
        seed: int,
        device: torch.device,
        *,
        keep_count: int | None = None,
        teacher: SectionedNetwork | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> Self:
        """Of `steps_total` steps of training on so many examples; costs are those of the network as it is now."""
        return cls(
            examples=examples,
            batch_size=training.batch_size,
            steps_per_epoch=steps_per_epoch(examples, training.batch_size),
            steps_total=steps_total,
            seed=seed,
            device=device,
            section_macs=tuple(section_macs(network)),
            section_params=tuple(section_params(network)),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            decayed=training.decayed,
            label_smoothing=training.label_smoothing,
            keep_count=keep_count,
            teacher=teacher,
            teacher_macs=count_macs(teacher, teacher.input_shape) if teacher is not None else 0,
            group=group,
        )

    @property
    def sections(self) -> int:
        return len(self.section_macs)

    def costs(self, kind: str) -> Tensor:
        """Cost weights c [L] with sum L: uniform, or each section's share of MACs or parameters."""
        by_kind = {"uniform": [1] * self.sections, "macs": self.section_macs, "params": self.section_params}
        raw = torch.tensor(by_kind[kind], dtype=torch.float32, device=self.device)
        return raw * (self.sections / raw.sum())


@dataclass(frozen=True)
class Outcome:
    """What a training method decided: sections to keep, and constant gates to fold into their last weights."""

    keep: list[int]
    scale: list[float] | None = None
    details: dict[str, Any] = field(default_factory=dict)


def keep_highest(scores: list[float], count: int) -> list[int]:
    """Keep list with the `count` highest scores; of equal scores the earlier section stays."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return [int(index in ranked[:count]) for index in range(len(scores))]


def checked_scores(slug: str, scores: Any, names: Sequence[str]) -> list[float]:
    """What a score method returned, a number for each section of these names.

    Raises SettingError naming the method for anything else, and for numbers that are not finite: they have no order.
    """
    wanted = f"{slug}: score must return a number for each of {len(names)} sections"
    try:
        values = [float(value.detach() if isinstance(value, Tensor) else value) for value in scores]
    except (TypeError, ValueError, RuntimeError) as error:  # None; None in a list; several numbers a section
        raise SettingError(f"{wanted}, not a {type(scores).__name__}: {error}") from None
    if len(values) != len(names):
        raise SettingError(f"{wanted}, not {len(values)}")
    for name, value in zip(names, values, strict=True):
        if not math.isfinite(value):
            raise SettingError(f"{slug}: the score of section '{name}' is {value}")
    return values


def score_under(module: ModuleType, settings: Any) -> Callable[[SectionedNetwork, Any], Tensor]:
    """A score method's `score` as a function of network and batches alone, under these settings."""
    own = "settings" in inspect.signature(module.score).parameters
    return partial(module.score, settings=settings) if own else module.score


@dataclass(frozen=True)
class ControlPlan:
    """A network to train: the sections it has, and whether it starts from the dense network or from fresh weights."""

    keep: list[int]
    start: Literal["dense", "fresh"]
    duration_factor: float = 1.0
    """Length of training from fresh weights, as a multiple of the dense network's."""


@dataclass(frozen=True)
class Question:
    """What a control is asked: the architecture, and what gated made of it with the same seed."""

    names: list[str]
    """Names of the removable sections."""
    seed: int
    keep_count: int | None
    """Sections to keep, if the settings say so."""
    matched: list[int] | None
    """Gated's keep list, where the control asked for it."""
    macs_ratio: Callable[[list[int]], float]
    """MACs of the dense network over those of the network with a keep list."""


class TrainingMethod:
    """The plain network: no gates, nothing removed. Methods override what they need.

    Called once a step, in this order: prepare, gates, losses, penalty, after_backward, after_step. None of these may
    copy from the device to the host; `removals`, `finish`, `curve`, `outcome` may. A step may be recorded once and
    replayed as a CUDA graph: see `phase`. Where several processes share a run, `batch` counts the examples of all, and
    images, labels, losses and gates given by example are this process's (`context.group.mine`).
    """

    aims_to_prune = False
    skips_sections = False
    """Whether gates may be CLOSED."""
    looks_inside = False
    """Whether it looks at sections while they are computed, which compiled networks do not show."""
    supports_process_groups = True
    """Whether several processes that share a run decide with it as one would."""
    noise: torch.Generator | None = None
    """What gates are drawn from within an epoch, where they are drawn on the device."""
    check_interval: int | None = None
    extra_forwards = 0
    macs_beside = 0
    """Multiply-adds an example costs in each step beside the network: those of a teacher, of a discriminator."""

    def __init__(self, settings: Any, network: SectionedNetwork, context: Context) -> None:
        self.settings = settings
        self.network = network
        self.context = context

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of each epoch; re-seed the method's generators here."""

    def phase(self, step: int) -> Hashable | None:
        """Whatever the host decides about this step: one recorded step serves all steps of its phase.

        From `gates` to `after_step` they do the same operations with the same tensors. None: this step cannot be
        recorded, and is computed eagerly.
        """
        return () if type(self) is TrainingMethod else None

    def prepare(self, step: int) -> None:
        """Called on the host before the step, recorded or not: tell tensors what changes from step to step."""

    def gates(self, step: int, batch: int) -> Gates:
        """Gates of this step; see networks.sections for their shapes."""
        return None

    def losses(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example [B]; `logits` [B, classes] in float32."""
        smoothing = self.context.label_smoothing
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def penalty(self, step: int) -> Tensor | None:
        """A term added to the mean loss."""
        return None

    def after_backward(self, step: int, losses: Tensor, losses_of: Callable[[Gates], Tensor]) -> None:
        """Gradients are computed, weights have not moved. `losses` [B]; `losses_of(gates)` is a second forward pass."""

    def after_step(self, step: int, lr: Tensor) -> None:
        """Weights have moved with learning rate `lr` (a scalar on the device)."""

    def removals(self, step: int) -> list[int]:
        """Sections to remove for good now; asked every `check_interval` steps."""
        return []

    def macs_of_removals(self) -> int:
        """Multiply-adds that the last call of `removals` cost."""
        return 0

    def finish(self, accuracy_of: Callable[[Gates], float]) -> None:
        """Called after the last step, with final weights. `accuracy_of(gates)` is a validation accuracy; its cost
        counts."""

    def evaluation_gates(self) -> Gates:
        """Gates of the network that would be left if training ended now."""
        return None

    def curve(self) -> list[float] | None:
        """Each section's gate parameter, for curves.csv."""
        return None

    def outcome(self) -> Outcome:
        """The decision after the last step."""
        return Outcome(self.network.keep())

    def state(self) -> dict[str, Any]:
        """Tensors and plain data needed for an exact resume at an epoch's start."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""

    def _reseed(self, epoch: int) -> None:
        """`noise` at the start of the epoch's stream of gates; the same generator each time, as records need it."""
        if self.noise is None:
            self.noise = torch.Generator(device=self.context.device)
        self.noise.manual_seed(stream_seed("gates", self.context.seed, epoch))
