"""What a run has for its experiment: the network, a sample, and trainings, whose cost it notes."""

from collections.abc import Callable

from torch import Tensor

from layerprune.core.data.batches import evaluation_batches, training_batches
from layerprune.core.methods.base import Context, TrainingMethod
from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.section_scores import draw_sample
from layerprune.core.training.state import StateFile
from layerprune.suite.run.task import Task


class Bench:
    """An experiment's tools; `context_of` is the context of a network's training of so many steps."""

    def __init__(self, task: Task, context_of: Callable[[SectionedNetwork, int], Context]) -> None:
        self.task = task
        self.context_of = context_of
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
        )

    def _accuracy(self, network: SectionedNetwork) -> float:
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
        job = Job(task.data, batches, training, training, steps, StateFile(None, "", 0.0), Progress(), group=task.group)
        progress = Trainer(network, method(task.method_settings, network, self.context_of(network, steps)), job).run()
        self.train_macs += progress.train_macs
        self.wall_seconds += progress.wall_seconds
        return network
