"""Training of ResNets on CIFAR's shapes: our step and our batches against bench.reference, images a second.

Both sides compute with THREADS threads, torch's default on two cores; the reference's WORKERS loading processes share
these cores with it, as they do wherever such a loop runs on two cores, and rest in our turns.
"""

from collections.abc import Iterator

from bench import reference
from bench.steps import BATCH, TRAINING, made_up_data, network_of, shape_of, steps_of
from bench.timing import Measurement, compare
from layerprune.core.settings import NoSettings
from layerprune.library.latency.machine import computing_with

THREADS, WORKERS = 2, 2
IMAGES = 16 * BATCH
NOTE = f"{THREADS} threads each; the reference's {WORKERS} workers share their cores"
TARGET = ">= 2"
STEPS = {"resnet-20": 2, "resnet-56": 1}
"""Architecture, as published -> steps a turn."""
WAYS = (
    ("eager", "fp32", "fp32"),
    ("compiled", "fp32", "fp32"),
    ("eager", "bf16", "fp32"),
    ("compiled", "bf16", "fp32"),
    ("eager", "bf16", "bf16"),
    ("compiled", "bf16", "bf16"),
)
"""Engine and precision of our step, and precision of the reference's, which is always eager."""


def against_reference(
    arch: str,
    engine: str,
    precision: str,
    reference_precision: str,
    steps: int,
    rounds: int,
    batch: int = BATCH,
    workers: int = WORKERS,
) -> Measurement:
    """How many times as many images a second ours trains on: their time over ours."""
    way = {"engine": engine, "precision": precision}
    settings = TRAINING.model_copy(update={"batch_size": batch, "augment": "crop-flip", **way})
    ours = steps_of(network_of(arch), "dense", NoSettings(), settings, steps)
    batches = reference.loader(made_up_data(IMAGES, shape_of(arch)), batch, workers)
    depth = int(arch.rpartition("-")[2])
    recipe = settings.lr, settings.momentum, settings.weight_decay
    step = reference.training(depth, batches, *recipe, precision=reference_precision)

    def theirs() -> None:
        for _ in range(steps):
            step()

    name = f"our training, {engine} {precision} / reference's, {reference_precision}, images/s, {arch}"
    return compare(name, ours, theirs, rounds, TARGET, NOTE)


def measure(rounds: int) -> Iterator[Measurement]:
    """Two depths, with full width, and each way; compiling (torch.compile) needs a C++ compiler.

    bf16 pays where the CPU has instructions for it (avx512_bf16, amx_bf16); elsewhere it is slower than fp32.
    """
    with computing_with(THREADS):
        for arch, steps in STEPS.items():
            for way in WAYS:
                yield against_reference(arch, *way, steps, rounds)
