"""Training of ResNets on CIFAR's shapes: our step and our batches against bench.reference, images a second.

Both sides compute with THREADS threads, torch's default on two cores; the reference's WORKERS loading processes share
these cores with it, as they do wherever such a loop runs on two cores, and rest in our turns.
"""

from collections.abc import Iterator

from bench import reference
from bench.steps import BATCH, TRAINING, made_up_data, network_of, shape_of, steps_of
from bench.timing import Measurement, compare
from layerprune.config import NoSettings
from layerprune.latency import threads

THREADS, WORKERS = 2, 2
IMAGES = 16 * BATCH
NOTE = f"{THREADS} threads each; the reference's {WORKERS} workers share their cores"
TARGET = ">= 2"
STEPS = {"resnet-20": 2, "resnet-56": 1}
"""Architecture, as published -> steps a turn."""
ENGINES = ("eager", "compiled")


def against_reference(
    arch: str, engine: str, steps: int, rounds: int, batch: int = BATCH, workers: int = WORKERS
) -> Measurement:
    """How many times as many images a second ours trains on: their time over ours."""
    settings = TRAINING.model_copy(update={"batch_size": batch, "augment": "crop-flip", "engine": engine})
    ours = steps_of(network_of(arch), "dense", NoSettings(), settings, steps)
    batches = reference.loader(made_up_data(IMAGES, shape_of(arch)), batch, workers)
    depth = int(arch.rpartition("-")[2])
    step = reference.training(depth, batches, settings.lr, settings.momentum, settings.weight_decay)

    def theirs() -> None:
        for _ in range(steps):
            step()

    name = f"our training, {engine} / reference's, images a second, {arch}"
    return compare(name, ours, theirs, rounds, TARGET, NOTE)


def measure(rounds: int) -> Iterator[Measurement]:
    """Two depths, with full width, and both engines; compiling (torch.compile) needs a C++ compiler."""
    with threads(THREADS):
        for arch, steps in STEPS.items():
            for engine in ENGINES:
                yield against_reference(arch, engine, steps, rounds)
