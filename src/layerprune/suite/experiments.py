"""Experiments on a network: runs that prune nothing, but note what they measured."""

import importlib

from torch import Tensor

from layerprune.core.data.batches import evaluation_batches, training_batches
from layerprune.core.methods import module_name
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.evaluate import batch_size, evaluate
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.section_scores import draw_sample
from layerprune.core.training.state import StateFile
from layerprune.suite import untrained
from layerprune.suite.config import RunSettings
from layerprune.suite.execute import CERTIFICATE_IMAGES, Finished, Run


def finished(run: Run) -> Finished:
    """Make the experiment; its numbers are the record's details, its network the dense or a fresh one."""
    dense = run.parents["dense"].record if "dense" in run.parents else None
    network = (run.fresh_network() if dense is None else run.dense_network()).eval()
    bench = Bench(run)
    module = importlib.import_module(module_name(run.settings.method))
    details = module.measure(run.method_settings, bench.inputs(network))
    before = (dense.train_macs, dense.wall_seconds) if dense is not None else (0, 0.0)
    spent = before[0] + bench.train_macs, before[1] + bench.wall_seconds
    return untrained.finished(run, network, spent, before, details)


class Bench:
    """What a run has for its experiment, and what trainings there have cost."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.train_macs = 0
        self.wall_seconds = 0.0

    def inputs(self, network: SectionedNetwork) -> ExperimentInput:
        data = self.run.data
        certified = next(evaluation_batches(data.validation, data.mean, data.std, self._certified()))
        return ExperimentInput(
            network=network,
            seed=self.settings.seed,
            classes=data.classes,
            images_seen=len(data.validation),
            certified=certified[0],
            accuracy=self._accuracy,
            sample=self._sample,
            train=self._train,
        )

    @property
    def settings(self) -> RunSettings:
        return self.run.settings

    def _certified(self) -> int:
        return min(CERTIFICATE_IMAGES, batch_size(self.run.data))

    def _accuracy(self, network: SectionedNetwork) -> float:
        return evaluate(network, self.run.data, self.run.data.validation, group=self.run.group).accuracy

    def _sample(self, count: int) -> tuple[Tensor, Tensor]:
        chosen = draw_sample(self.run.data, "training", count, self.settings.seed).split
        return next(evaluation_batches(chosen, self.run.data.mean, self.run.data.std, count))

    def _train(self, method: type[TrainingMethod], epochs: int) -> SectionedNetwork:
        run, training = self.run, self.settings.training
        network = run.fresh_network()
        source = training.batch_size, self.settings.seed, training.augment, run.device, run.group
        batches = training_batches(run.data, *source)
        steps = epochs * batches.steps_per_epoch
        job = Job(run.data, batches, training, training, steps, StateFile(None, "", 0.0), Progress(), group=run.group)
        made = method(run.method_settings, network, untrained.context(run, network, steps))
        progress = Trainer(network, made, job).run()
        self.train_macs += progress.train_macs
        self.wall_seconds += progress.wall_seconds
        return network
