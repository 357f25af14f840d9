"""From a task to a network that has lost its sections: a start, the one training loop, the method's decision."""

from dataclasses import dataclass

from layerprune.core import surgery
from layerprune.core.data.batches import Batches, training_batches
from layerprune.core.methods.base import Outcome, TrainingMethod
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.errors import SettingError
from layerprune.suite.run.starts import Start, start_of
from layerprune.suite.run.task import Task


@dataclass(frozen=True)
class Trained:
    """The network without the sections that went, not folded yet; the books; what the method decided."""

    network: SectionedNetwork
    outcome: Outcome
    progress: Progress
    start: Start
    steps_per_epoch: int

    @property
    def aims_to_prune(self) -> bool:
        return self.start.method.aims_to_prune


def train(task: Task) -> Trained:
    """Train and prune. Raises SettingError for settings that do not fit, Preempted when the process is told to end.

    Raises LayerpruneError before the first step for a network that could not be saved after the last one.
    """
    task.check_network()
    batches = batches_of(task)
    start = start_of(task, batches)
    _check_group(task, start.method, batches)
    task.group.agree("the sections to start with", start.network.keep())
    progress = trainer_of(task, start, batches).run()
    outcome = start.method.outcome()
    _take_out(start.network, outcome, progress)
    return Trained(start.network, outcome, progress, start, batches.steps_per_epoch)


def batches_of(task: Task) -> Batches:
    """The training split's batches, in the order and augmentation of the run's seed."""
    return training_batches(task.data, task.settings.training, task.settings.seed, task.device, task.group)


def trainer_of(task: Task, start: Start, batches: Batches) -> Trainer:
    """What takes the start through its steps."""
    job = Job(
        task.data,
        batches,
        task.settings.training,
        start.rate,
        start.steps_total,
        task.state,
        start.progress,
        task.report,
        task.notice,
        task.group,
        task.records,
    )
    return Trainer(start.network, start.method, job)


def _check_group(task: Task, method: TrainingMethod, batches: Batches) -> None:
    """Raises SettingError for what several processes cannot share."""
    size = task.group.size
    if size == 1:
        return
    if not method.supports_process_groups:
        raise SettingError(f"'{task.settings.method}' cannot be shared by several processes: run it on one device")
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
