"""Runs on made-up images of MNIST's shape: the suite's own trainer, loader and networks, without its files."""

import importlib
from dataclasses import dataclass, field
from typing import Any

import torch

from layerprune.config import FinetuneSettings, RunSettings, TrainingSettings, settings_class
from layerprune.data.dataset import DataSet, Split
from layerprune.data.batches import TrainingBatches
from layerprune.execute import Run
from layerprune.measure.counting import section_macs, section_params
from layerprune.methods import module_name
from layerprune.methods.base import Context
from layerprune.models.sections import SectionedNetwork
from layerprune.runner import choose_device
from layerprune.training.loop import Job, Progress, Trainer
from layerprune.training.state import StateFile

NO_STATE = StateFile(None, "", float("inf"))


def made_up_data(train: int, device: torch.device, held_out: int = 256) -> DataSet:
    """Random images uint8 [N, 1, 28, 28]; a step takes as long on them as on digits."""
    source = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=source)
        return Split(images, torch.randint(0, 10, (count,), generator=source))

    splits = split(train), split(held_out), split(held_out)
    return DataSet("made-up", "made-up", 10, *splits, (0.5,), (0.25,), {}).to(device)


@dataclass(frozen=True)
class Setup:
    """What a training to be timed is. The learning rate is too small to move anything."""

    arch: str
    method: str = "dense"
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1000
    batch_size: int = 128

    def training(self) -> TrainingSettings:
        return TrainingSettings(duration=f"{self.epochs}ep", batch_size=self.batch_size, lr=1e-6)

    def run(self, data: DataSet) -> Run:
        """The suite's own description of this training."""
        typed = settings_class(self.method).model_validate(self.settings).model_dump(mode="json")
        chosen = RunSettings(
            dataset="made-up",
            arch=self.arch,
            method=self.method,
            seed=0,
            training=self.training(),
            finetune=FinetuneSettings(),
            settings=typed,
        )
        return Run(chosen, data, choose_device("auto"), {}, NO_STATE, lambda done, total, text: None)


def trainer_of(setup: Setup, data: DataSet, network: SectionedNetwork | None = None) -> Trainer:
    """The suite's trainer, before its first step; `network` replaces the architecture's own."""
    run = setup.run(data)
    batches = TrainingBatches(data.train, data.mean, data.std, setup.batch_size, 0, "none", run.device)
    network = run.fresh_network() if network is None else run.place(network)
    steps = setup.epochs * batches.steps_per_epoch
    context = Context(
        examples=len(data.train),
        batch_size=setup.batch_size,
        steps_per_epoch=batches.steps_per_epoch,
        steps_total=steps,
        seed=0,
        device=run.device,
        section_macs=tuple(section_macs(network)),
        section_params=tuple(section_params(network)),
        momentum=0.9,
    )
    method = importlib.import_module(module_name(setup.method)).Method(run.method_settings, network, context)
    training = setup.training()
    return Trainer(network, method, Job(data, batches, training, training, steps, NO_STATE, Progress()))
