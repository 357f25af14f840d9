"""One run, from settings and data to a trained, pruned, folded network and its numbers. Touches no result file.

Three families, one path each to a `Start`; then the same training loop, the same surgery and the same measuring.
"""

import copy
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn

from layerprune.core import surgery
from layerprune.core.data.batches import Batches, evaluation_batches, training_batches
from layerprune.core.data.dataset import DataSet
from layerprune.core.measure import count_macs, equivalence_gap, section_macs, section_params
from layerprune.core.methods import families, module_name
from layerprune.core.methods.base import Context, ControlPlan, Outcome, Question, TrainingMethod, keep_highest
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork, mask_gates
from layerprune.core.seeding import generator
from layerprune.core.settings import steps_of
from layerprune.core.training.evaluate import batch_size, evaluate
from layerprune.core.training.finetuning import Finetuning, Ranking
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.section_scores import draw_sample, metered_score
from layerprune.core.training.state import StateFile
from layerprune.errors import SettingError
from layerprune.suite.config import RunSettings
from layerprune.suite.record import Record
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup
from layerprune.system.signals import Notice

Report = Callable[[int, int, str], None]
CERTIFICATE_IMAGES = 500


@dataclass(frozen=True)
class Parent:
    """A finished run that another starts from."""

    record: Record
    load: Callable[[], SectionedNetwork]


@dataclass(frozen=True)
class Run:
    """What a run needs: settings, data on the device, parents by method, where its state lies; who shares it."""

    settings: RunSettings
    data: DataSet
    device: torch.device
    parents: dict[str, Parent]
    state: StateFile
    report: Report
    notice: Notice = field(default_factory=Notice)
    group: ProcessGroup = SINGLE_PROCESS

    @property
    def method_settings(self) -> Any:
        return self.settings.method_settings()

    def fresh_network(self, stream: str = "initialisation") -> SectionedNetwork:
        """The whole network from the named stream."""
        source = generator(stream, self.settings.seed)
        settings = self.settings
        return self.place(build(settings.arch, self.data.shape, self.data.classes, source, settings.model))

    def dense_network(self) -> SectionedNetwork:
        """The trained network that this run starts from."""
        return self.place(self.parents["dense"].load())

    def teacher(self) -> SectionedNetwork:
        """The trained network again, to learn from: in evaluation mode, without gradients."""
        return self.dense_network().eval().requires_grad_(False)

    def place(self, network: SectionedNetwork) -> SectionedNetwork:
        """On the device, channels last: LeNet-5's training step is a third faster so on a CPU."""
        return network.to(self.device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Start:
    """Where training begins: network, method, length and rate, and what was spent before."""

    network: SectionedNetwork
    method: TrainingMethod
    rate: Any
    steps_total: int
    progress: Progress
    before_finetune: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """What a run leaves: the network before and after folding, its books, and the method's decision."""

    network: SectionedNetwork
    outcome: Outcome
    progress: Progress
    start: Start
    spent_before: tuple[int, float]
    aims_to_prune: bool


def execute(run: Run) -> Finished:
    """Train and prune. The result's network has lost its sections but is not folded yet."""
    batches = _batches(run)
    start = _STARTS[families()[run.settings.method]](run, batches)
    _check_process_group(run, start.method, batches)
    run.group.agree("the sections to start with", start.network.keep())
    spent = _spent_by_ancestors(run)
    job = Job(
        run.data,
        batches,
        run.settings.training,
        start.rate,
        start.steps_total,
        run.state,
        start.progress,
        run.report,
        run.notice,
        run.group,
    )
    trainer = Trainer(start.network, start.method, job)
    progress = trainer.run()
    outcome = start.method.outcome()
    _take_out(start.network, outcome, progress)
    return Finished(start.network, outcome, progress, start, spent, start.method.aims_to_prune)


def _batches(run: Run) -> Batches:
    training, seed = run.settings.training, run.settings.seed
    return training_batches(run.data, training.batch_size, seed, training.augment, run.device, run.group)


def _check_process_group(run: Run, method: TrainingMethod, batches: Batches) -> None:
    """Raises SettingError for what several processes cannot share."""
    size = run.group.size
    if size == 1:
        return
    if not method.supports_process_groups:
        raise SettingError(f"'{run.settings.method}' cannot be shared by several processes: run it on one device")
    smallest = batches.examples_in(batches.steps_per_epoch - 1)
    if smallest < size:
        raise SettingError(
            f"training.batch_size: the last batch of an epoch has {smallest} examples, too few for {size} processes"
        )


def _take_out(network: SectionedNetwork, outcome: Outcome, progress: Progress) -> None:
    """Remove what the method decided at the end, and note the step."""
    for index, stays in enumerate(outcome.keep):
        if not stays and network.sections[index].alive:
            progress.removed_step[index] = progress.step
    surgery.remove_all_but(network, outcome.keep)


# --- starts ---------------------------------------------------------------------------------------------------


def _context(
    run: Run,
    network: SectionedNetwork,
    batches: Batches,
    steps_total: int,
    teacher: SectionedNetwork | None = None,
) -> Context:
    return Context(
        examples=len(run.data.train),
        batch_size=run.settings.training.batch_size,
        steps_per_epoch=batches.steps_per_epoch,
        steps_total=steps_total,
        seed=run.settings.seed,
        device=run.device,
        section_macs=tuple(section_macs(network)),
        section_params=tuple(section_params(network)),
        momentum=run.settings.training.momentum,
        keep_count=_keep_count(run, network),
        teacher=teacher,
        teacher_macs=count_macs(teacher, teacher.input_shape) if teacher is not None else 0,
        group=run.group,
    )


def _keep_count(run: Run, network: SectionedNetwork) -> int | None:
    """Sections to keep by the method's settings, None for all. Raises SettingError for more than there are."""
    settings = run.method_settings
    rule = getattr(settings, "keep", "all")
    if rule == "all" or getattr(settings, "threshold", None) is not None:
        return None
    count = sum(run.parents["gated"].record.keep) if rule == "matched" else int(rule)
    if count > len(network.sections):
        raise SettingError(
            f"settings.keep: {count} sections asked for, {run.settings.arch} has {len(network.sections)}"
        )
    return count


def _start_trained(run: Run, batches: Batches) -> Start:
    module = importlib.import_module(module_name(run.settings.method))
    if "dense" in run.parents:
        return _start_from_dense(run, batches, module)
    network = run.fresh_network()
    steps = steps_of(run.settings.training.duration, batches.steps_per_epoch)
    method = module.Method(run.method_settings, network, _context(run, network, batches, steps))
    return Start(network, method, run.settings.training, steps, Progress())


def _start_from_dense(run: Run, batches: Batches, module: ModuleType) -> Start:
    """Gates learnt on the trained network: a search of the method's own length, then the common fine-tuning."""
    dense, network = run.parents["dense"].record, run.dense_network()
    durations = run.method_settings.search, run.settings.finetune.duration
    steps = sum(steps_of(duration, batches.steps_per_epoch) for duration in durations)
    method = module.Method(run.method_settings, network, _context(run, network, batches, steps, run.teacher()))
    spent = Progress(train_macs=dense.train_macs, wall_seconds=dense.wall_seconds)
    return Start(network, method, run.settings.finetune, steps, spent)


def _start_scored(run: Run, batches: Batches) -> Start:
    network = run.dense_network()
    module = importlib.import_module(module_name(run.settings.method))
    settings = run.method_settings
    sample = draw_sample(run.data, getattr(module, "LOOKS_AT", "training"), settings.sample, run.settings.seed)

    def ranking(network: SectionedNetwork) -> tuple[list[float], int]:
        return metered_score(module.score, network, sample, run.settings.seed)

    began = time.perf_counter()
    scores, macs = ranking(network)
    spent = macs, time.perf_counter() - began
    count = _keep_count(run, network)
    if settings.removal == "iterative" and count is not None and count < len(scores):
        keep = keep_highest(scores, len(scores) - 1)
        return _finetune(run, network, keep, batches, spent, {"scores": scores}, ranking)
    choose = getattr(module, "choose", lambda scores, count, settings: keep_highest(scores, count))
    keep = choose(scores, len(scores) if count is None else count, settings)
    return _finetune(run, network, keep, batches, spent, {"scores": scores})


def _start_control(run: Run, batches: Batches) -> Start:
    module = importlib.import_module(module_name(run.settings.method))
    network = run.fresh_network("initialisation from scratch")
    plan: ControlPlan = module.plan(run.method_settings, _question(run, network))
    if plan.start == "dense":
        return _finetune(run, run.dense_network(), plan.keep, batches, (0, 0.0), {})
    surgery.remove_all_but(network, plan.keep)
    duration = run.settings.training.duration
    steps = steps_of(f"{int(int(duration[:-2]) * plan.duration_factor)}{duration[-2:]}", batches.steps_per_epoch)
    method = TrainingMethod(run.method_settings, network, _context(run, network, batches, steps))
    return Start(network, method, run.settings.training, steps, Progress())


def _question(run: Run, network: SectionedNetwork) -> Question:
    return Question(
        names=[section.name for section in network.sections],
        seed=run.settings.seed,
        keep_count=_keep_count(run, network),
        matched=run.parents["gated"].record.keep if "gated" in run.parents else None,
        macs_ratio=lambda keep: _macs_ratio(run, keep),
    )


def _macs_ratio(run: Run, keep: list[int]) -> float:
    network = run.fresh_network()
    whole = count_macs(network, network.input_shape)
    surgery.remove_all_but(network, keep)
    return whole / count_macs(network, network.input_shape)


def _finetune(
    run: Run,
    network: SectionedNetwork,
    keep: list[int],
    batches: Batches,
    scoring: tuple[int, float],
    details: dict[str, Any],
    ranking: Ranking | None = None,
) -> Start:
    """Remove the sections, then train on with the fine-tuning rate; books start at what the dense run spent."""
    dense = run.parents["dense"].record
    surgery.remove_all_but(network, keep)
    steps = steps_of(run.settings.finetune.duration, batches.steps_per_epoch)
    context = _context(run, network, batches, steps, run.teacher())
    method = Finetuning(run.method_settings, network, context, ranking)
    # Where sections go one after the other there is no moment at which all are gone and nothing was repaired.
    before = evaluate(network, run.data, run.data.validation, group=run.group) if ranking is None else None
    spent = Progress(train_macs=dense.train_macs + scoring[0], wall_seconds=dense.wall_seconds + scoring[1])
    return Start(network, method, run.settings.finetune, steps, spent, before.accuracy if before else None, details)


_STARTS = {"trained": _start_trained, "scores": _start_scored, "controls": _start_control}


def _spent_by_ancestors(run: Run) -> tuple[int, float]:
    """Multiply-adds and seconds of the training that this run's weights come from: the dense network's, or none."""
    if "dense" not in run.parents:
        return 0, 0.0
    dense = run.parents["dense"].record
    return dense.train_macs, dense.wall_seconds


# --- the smaller network --------------------------------------------------------------------------------------


def smaller_network(finished: Finished) -> SectionedNetwork:
    """The network to ship: constant gates folded into weights, neighbouring linear maps multiplied out."""
    network = copy.deepcopy(finished.network)
    scale = finished.outcome.scale
    for index, section in enumerate(network.sections):
        if section.alive and scale is not None:
            surgery.scale_branch(section, scale[index])
    surgery.fold(network)
    return network


def certificate(run: Run, finished: Finished, smaller: SectionedNetwork) -> float:
    """Gap between the whole network with gates fixed, and the smaller one; see core.measure.

    Branches that went are given fresh random weights in the whole network: behind a gate at 0 they must not matter.
    """
    whole = run.fresh_network("certificate")
    own, trained = whole.state_dict(), finished.network.state_dict()
    with torch.no_grad():
        for name in own.keys() & trained.keys():
            own[name].copy_(trained[name])
    scale = finished.outcome.scale or [1.0] * len(finished.outcome.keep)
    gates = mask_gates([stays * factor for stays, factor in zip(finished.outcome.keep, scale, strict=True)], run.device)
    data = run.data
    count = min(CERTIFICATE_IMAGES, batch_size(data))
    images, _ = next(evaluation_batches(data.validation, data.mean, data.std, count))
    return equivalence_gap(whole, gates, smaller, images)


def all_finite(network: nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())
