"""Where training begins: a Start for each family of methods, and for weights that are read from a file.

Experiments and weights from a file start with nothing to train: they go the way of all runs with 0 steps.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor

from layerprune.core import surgery
from layerprune.core.data.batches import Batches, evaluation_batches, training_batches
from layerprune.core.measure import count_macs
from layerprune.core.methods import entry_point, families, looks_at, module_name
from layerprune.core.methods.base import Context, ControlPlan, Question, TrainingMethod, keep_highest, score_under
from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.networks.pretrained import load_pretrained
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import TrainingSettings, steps_of
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.finetuning import Finetuning, Ranking
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.section_scores import draw_sample, metered_score
from layerprune.core.training.state import StateFile
from layerprune.errors import SettingError
from layerprune.suite.run.task import Task
from layerprune.system.processes import Preempted


@dataclass(frozen=True)
class Start:
    """Network, method, length and rate of a training, and what was spent before it."""

    network: SectionedNetwork
    method: TrainingMethod
    rate: Any
    steps_total: int
    progress: Progress
    before_finetune: float | None = None
    """Validation accuracy after a one-shot removal."""
    details: dict[str, Any] = field(default_factory=dict)


def start_of(task: Task, batches: Batches) -> Start:
    """The run's start. Raises SettingError for a setting that does not fit the network."""
    if task.weights is not None:
        return _pretrained(task, batches)
    return _BY_FAMILY[families()[task.settings.method]](task, batches)


def _module(task: Task) -> ModuleType:
    return importlib.import_module(module_name(task.settings.method))


def _entry_point(task: Task) -> Callable:
    return entry_point(task.settings.method)


def context_of(
    task: Task, network: SectionedNetwork, steps_total: int, teacher: SectionedNetwork | None = None
) -> Context:
    """What the run's method may know of it."""
    settings, examples = task.settings, len(task.data.train)
    keep_count = _keep_count(task, network)
    own = {"keep_count": keep_count, "teacher": teacher, "group": task.group}
    return Context.of(network, examples, settings.training, steps_total, settings.seed, task.device, **own)


def _keep_count(task: Task, network: SectionedNetwork) -> int | None:
    """Sections to keep by the method's settings, None for all. Raises SettingError for more than there are."""
    settings = task.method_settings
    rule = getattr(settings, "keep", "all")
    if rule in ("all", "tolerance") or getattr(settings, "threshold", None) is not None:
        return None
    count = sum(task.parents["gated"].record.keep) if rule == "matched" else int(rule)
    if count > len(network.sections):
        raise SettingError(
            f"settings.keep: {count} sections requested, {task.settings.arch} has {len(network.sections)}"
        )
    return count


# --- trained methods ------------------------------------------------------------------------------------------------


def _trained(task: Task, batches: Batches) -> Start:
    if "dense" in task.parents:
        return _trained_from_dense(task, batches)
    network = task.fresh_network()
    steps = steps_of(task.settings.training.duration, batches.steps_per_epoch)
    method = _entry_point(task)(task.method_settings, network, context_of(task, network, steps))
    return Start(network, method, task.settings.training, steps, Progress())


def _trained_from_dense(task: Task, batches: Batches) -> Start:
    """Gates learnt on the trained network: a search of the method's own length, then the common fine-tuning."""
    network = task.dense_network()
    durations = task.method_settings.search, task.settings.finetune.duration
    steps = sum(steps_of(duration, batches.steps_per_epoch) for duration in durations)
    context = context_of(task, network, steps, task.teacher())
    method = _entry_point(task)(task.method_settings, network, context)
    return Start(network, method, task.settings.finetune, steps, _books(task))


def _books(task: Task, macs: int = 0, seconds: float = 0.0) -> Progress:
    """The account at the start: what the parents spent, and what has been spent since."""
    before = task.spent_by_parents
    return Progress(train_macs=before[0] + macs, wall_seconds=before[1] + seconds)


# --- scores and controls --------------------------------------------------------------------------------------------


def _scored(task: Task, batches: Batches) -> Start:
    network, module, settings = task.dense_network(), _module(task), task.method_settings
    slug, seed = task.settings.method, task.settings.seed
    sample = draw_sample(task.data, looks_at(slug), settings.sample, seed)

    def ranking(network: SectionedNetwork) -> tuple[list[float], int]:
        return metered_score(score_under(module, settings), network, sample, seed, slug)

    began = time.perf_counter()
    scores, macs = ranking(network)
    books = _books(task, macs, time.perf_counter() - began)
    count = _keep_count(task, network)
    if settings.removal == "iterative" and count is not None and count < len(scores):
        keep = keep_highest(scores, len(scores) - 1)
        return _finetuned(task, network, keep, batches, books, {"scores": scores}, ranking)
    choose = getattr(module, "choose", lambda scores, count, settings: keep_highest(scores, count))
    keep = choose(scores, len(scores) if count is None else count, settings)
    return _finetuned(task, network, keep, batches, books, {"scores": scores})


def _controlled(task: Task, batches: Batches) -> Start:
    network = task.fresh_network("initialisation from scratch")
    plan: ControlPlan = _entry_point(task)(task.method_settings, _question(task, network))
    if plan.start == "dense":
        return _finetuned(task, task.dense_network(), plan.keep, batches, _books(task), {})
    surgery.remove_all_but(network, plan.keep)
    duration = task.settings.training.duration
    steps = steps_of(f"{int(int(duration[:-2]) * plan.duration_factor)}{duration[-2:]}", batches.steps_per_epoch)
    method = TrainingMethod(task.method_settings, network, context_of(task, network, steps))
    return Start(network, method, task.settings.training, steps, Progress())


def _question(task: Task, network: SectionedNetwork) -> Question:
    return Question(
        names=[section.name for section in network.sections],
        seed=task.settings.seed,
        keep_count=_keep_count(task, network),
        matched=task.parents["gated"].record.keep if "gated" in task.parents else None,
        macs_ratio=lambda keep: _macs_ratio(task, keep),
    )


def _macs_ratio(task: Task, keep: Sequence[int]) -> float:
    network = task.fresh_network()
    whole = count_macs(network, network.input_shape)
    surgery.remove_all_but(network, keep)
    return whole / count_macs(network, network.input_shape)


def _finetuned(
    task: Task,
    network: SectionedNetwork,
    keep: Sequence[int],
    batches: Batches,
    books: Progress,
    details: dict[str, Any],
    ranking: Ranking | None = None,
) -> Start:
    """Remove the sections, then train on with the fine-tuning rate."""
    surgery.remove_all_but(network, keep)
    steps = steps_of(task.settings.finetune.duration, batches.steps_per_epoch)
    context = context_of(task, network, steps, task.teacher())
    method = Finetuning(task.method_settings, network, context, ranking)
    # Where sections go one after the other there is no moment at which all are gone and nothing was repaired.
    before = evaluate(network, task.data, task.data.validation, group=task.group) if ranking is None else None
    return Start(network, method, task.settings.finetune, steps, books, before.accuracy if before else None, details)


# --- an experiment's tools ------------------------------------------------------------------------------------------


class Bench:
    """What a run offers its experiment: the network, a sample, and trainings, whose cost it notes."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.train_macs = 0
        self.wall_seconds = 0.0

    def inputs(self, network: SectionedNetwork) -> ExperimentInput:
        """What the experiment is given."""
        data = self.task.data
        return ExperimentInput(
            network=network,
            seed=self.task.settings.seed,
            classes=data.classes,
            images_seen=len(data.validation),
            certified=self.task.certificate_images(),
            accuracy=self._accuracy,
            sample=self._sample,
            train=self._train,
            go_on=self._go_on,
        )

    def _go_on(self) -> None:
        if self.task.group.any(bool(self.task.notice)):
            raise Preempted("told to end (SIGTERM): there is no state, the same command begins anew")

    def _accuracy(self, network: SectionedNetwork) -> float:
        self._go_on()
        return evaluate(network, self.task.data, self.task.data.validation, group=self.task.group).accuracy

    def _sample(self, count: int) -> tuple[Tensor, Tensor]:
        data = self.task.data
        chosen = draw_sample(data, "training", count, self.task.settings.seed).split
        return next(evaluation_batches(chosen, data.mean, data.std, count))

    def _train(self, method: type[TrainingMethod], epochs: int) -> SectionedNetwork:
        task, training = self.task, self.task.settings.training
        network = task.fresh_network()
        batches = training_batches(task.data, training, task.settings.seed, task.device, task.group)
        steps = epochs * batches.steps_per_epoch
        shared = {"group": task.group, "records": task.records, "notice": task.notice}
        job = Job(task.data, batches, training, training, steps, StateFile(None, "", 0.0), Progress(), **shared)
        progress = Trainer(network, method(task.method_settings, network, context_of(task, network, steps)), job).run()
        self.train_macs += progress.train_macs
        self.wall_seconds += progress.wall_seconds
        return network


# --- nothing to train -----------------------------------------------------------------------------------------------


def _measured(task: Task, batches: Batches) -> Start:
    """An experiment: its numbers are the record's details, its network the dense or a fresh one."""
    network = (task.dense_network() if "dense" in task.parents else task.fresh_network()).eval()
    bench = Bench(task)
    details = _entry_point(task)(task.method_settings, bench.inputs(network))
    return _without_training(task, network, _books(task, bench.train_macs, bench.wall_seconds), details)


def _pretrained(task: Task, batches: Batches) -> Start:
    """The network of a file as if it had just been trained. Raises LayerpruneError where the file does not fit.

    Nobody knows what its training cost: it is charged the preset's own training cost, so that rivals that start from it
    are not taken to be cheaper than those that train.
    """
    network, file = task.fresh_network(), task.weights
    load_pretrained(network, file.path)
    seen = _examples(task.settings.training, len(task.data.train))
    books = Progress(train_macs=3 * count_macs(network, network.input_shape) * seen)
    details = {"pretrained": {"file": file.path.name, "sha256": file.checksum, "billed": "as trained here"}}
    return _without_training(task, network, books, details)


def _examples(training: TrainingSettings, in_an_epoch: int) -> int:
    """How many examples the preset's own training would see."""
    count, unit = int(training.duration[:-2]), training.duration[-2:]
    return count * (in_an_epoch if unit == "ep" else training.batch_size)


def _without_training(task: Task, network: SectionedNetwork, books: Progress, details: dict) -> Start:
    method = TrainingMethod(task.method_settings, network, context_of(task, network, 0))
    return Start(network, method, task.settings.training, 0, books, details=details)


_BY_FAMILY: dict[str, Callable[[Task, Batches], Start]] = {
    "trained": _trained,
    "scores": _scored,
    "controls": _controlled,
    "experiments": _measured,
}
