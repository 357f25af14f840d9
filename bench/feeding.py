"""ResNet-50 in training: images a second from memory and from JPEGs, and the share of its time that it waits for them;
from JPEGs with gates on too.

On a GPU as in the preset `paper`: bf16, batches of 256, 224 pixels, as many decoding processes as there are CPU cores.
On a CPU a small case, which rehearses the measurement and says nothing of a GPU. The JPEGs are those of bench.streams,
read from the page cache. Before each batch is awaited the device is done with the one before.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.steps import CLASSES, GATED, TRAINING, made_up_data
from bench.streams import write_images
from bench.timing import Measurement
from layerprune.core.data.batches import Batches, TrainingBatches
from layerprune.core.data.class_folders import read_index
from layerprune.core.data.imagenet import MEAN, STD
from layerprune.core.data.streaming import TrainingStream
from layerprune.core.methods.base import Context, TrainingMethod
from layerprune.core.methods.trained import gated
from layerprune.core.networks.build import build
from layerprune.core.settings import NoSettings
from layerprune.core.timing import quartiles
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.state import StateFile

ARCH = "imagenet-resnet-50"
Way = tuple[str, str]
"""A method, and where its images come from."""
WAYS: tuple[Way, ...] = (("dense", "memory"), ("dense", "files"), ("gated", "files"))
WARM_UP = 3
"""Steps before the measured ones: compilation of kernels, and workers on their way."""


@dataclass(frozen=True)
class Case:
    """How large a training is measured, and on what."""

    device: torch.device
    precision: str
    batch: int
    pixels: int
    workers: int

    @property
    def words(self) -> str:
        """For the report."""
        return f"{ARCH}, {self.precision}, batch {self.batch}, {self.pixels} pixels"


def case_here() -> Case:
    """That of the preset `paper` where there is a GPU, else the rehearsal."""
    if torch.cuda.is_available():
        return Case(torch.device("cuda"), "bf16", 256, 224, os.cpu_count() or 1)
    return Case(torch.device("cpu"), "fp32", 8, 64, 1)


@dataclass(frozen=True)
class Turn:
    """One measured stretch: images a second, and the share of the time in which the network waited for images."""

    rate: float
    waiting: float


def turn(trainer: Trainer, source: Iterator[tuple[Tensor, Tensor]], case: Case, steps: int) -> Turn:
    """So many training steps on what the source gives."""
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        images, labels = next(source)
        waited += time.perf_counter() - asked
        trainer._step(images, labels)
        if case.device.type == "cuda":
            torch.cuda.synchronize(case.device)
    took = time.perf_counter() - began
    return Turn(steps * case.batch / took, waited / took)


def trainer_of(case: Case, batches: Batches, method: str = "dense") -> Trainer:
    """A whole network's, on the case's device; gated keeps every section."""
    shape = (3, case.pixels, case.pixels)
    network = build(ARCH, shape, CLASSES, torch.Generator().manual_seed(0))
    network = network.to(case.device, memory_format=torch.channels_last).train()
    settings = TRAINING.model_copy(update={"batch_size": case.batch, "precision": case.precision})
    context = Context.of(network, 10**9, settings, 10**9, 0, case.device)
    data = made_up_data(1, shape).to(case.device)
    job = Job(data, batches, settings, settings, 10**9, StateFile(None, "", 0.0), Progress())
    kind, method_settings = (gated.Method, GATED) if method == "gated" else (TrainingMethod, NoSettings())
    trained = kind(method_settings, network, context)
    trained.start_epoch(0)
    return Trainer(network, trained, job)


def from_memory(case: Case, count: int) -> TrainingBatches:
    """Random images that lie on the device."""
    data = made_up_data(count, (3, case.pixels, case.pixels))
    return TrainingBatches(data.train, data.mean, data.std, case.batch, 0, "none", case.device)


def from_files(case: Case, folder: Path, decoder: str = "torchvision") -> TrainingStream:
    """JPEGs decoded by worker processes."""
    images = read_index(folder)["train"]
    options = {"seed": 0, "decoder": decoder}
    return TrainingStream(images, case.pixels, MEAN, STD, case.batch, case.workers, case.device, **options)


def endless(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches of one epoch after the other."""
    for epoch in range(10**9):
        yield from batches.epoch(epoch)


def measure(rounds: int, steps: int, case: Case | None = None) -> Iterator[Measurement]:
    """Rates in turns, each over another, and what share of the time was spent waiting."""
    case = case or case_here()
    count = case.batch * steps
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), count)
        batches = {"memory": from_memory(case, count), "files": from_files(case, Path(folder))}
        sources = {name: endless(each) for name, each in batches.items()}
        trainers = {method: trainer_of(case, batches["memory"], method) for method in ("dense", "gated")}
        for method, source in WAYS:
            turn(trainers[method], sources[source], case, WARM_UP)
        turns = [
            {(method, source): turn(trainers[method], sources[source], case, steps) for method, source in WAYS}
            for _ in range(rounds)
        ]
    yield _rates(case, ("dense", "files"), ("dense", "memory"), turns)
    yield _rates(case, ("gated", "files"), ("dense", "files"), turns)
    yield from (_waiting(case, way, [each[way].waiting for each in turns]) for way in WAYS)


def _rates(case: Case, first: Way, second: Way, turns: list[dict[Way, Turn]]) -> Measurement:
    low, middle, high = quartiles([each[first].rate / each[second].rate for each in turns])
    rates = ", ".join(f"{statistics.median(each[way].rate for each in turns):.1f}" for way in (first, second))
    name = f"{_words(first)} / {_words(second)}, {case.words}, images/s"
    return Measurement(name, middle, low, high, len(turns), note=f"{rates} images/s; {case.workers} workers")


def _waiting(case: Case, way: Way, shares: list[float]) -> Measurement:
    low, middle, high = quartiles(shares)
    name = f"{_words(way)}, {case.words}, share of the time waiting for images"
    return Measurement(name, middle, low, high, len(shares))


def _words(way: Way) -> str:
    return f"{way[0]} training from {way[1]}"
