"""Runs on made-up images of MNIST's shape: the suite's own trainer, loader and networks, without its files."""

import torch

from layerprune.config import FinetuneSettings, RunSettings, TrainingSettings, settings_class
from layerprune.data.dataset import DataSet, Split
from layerprune.execute import Run, Start, start_of
from layerprune.runner import choose_device
from layerprune.training.loop import Job, Trainer
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


def prepare(arch: str, method: str, data: DataSet, duration: str, settings: dict, batch_size: int = 128) -> Run:
    """A run of a trained method with a learning rate too small to move anything."""
    training = TrainingSettings(duration=duration, batch_size=batch_size, lr=1e-6)
    typed = settings_class(method).model_validate(settings).model_dump(mode="json")
    chosen = RunSettings(
        dataset="made-up",
        arch=arch,
        method=method,
        seed=0,
        training=training,
        finetune=FinetuneSettings(),
        settings=typed,
    )
    device = choose_device("auto")
    return Run(chosen, data, device, {}, NO_STATE, lambda done, total, text: None)


def trainer_of(run: Run) -> Trainer:
    """The trainer of a run, before its first step."""
    start: Start
    start, batches = start_of(run)
    job = Job(
        run.data, batches, run.settings.training, start.rate, start.steps_total, NO_STATE, start.progress, run.report
    )
    return Trainer(start.network, start.method, job)
