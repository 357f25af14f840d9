"""The engines side by side: a compiled training step over an eager one; what compiling costs at the start and later.

Networks are as wide as published, on CIFAR's shapes, and batches equal, 125 images. Compiling is timed in a process of
its own where Inductor has stored nothing: seconds, not ratios, of the first step and of a removal, less a usual step.
"""

import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

from bench.steps import GATED, TRAINING, endless, network_of, steps_of, trainer_of
from bench.timing import Measurement, alternate, of_pairs
from layerprune.core.settings import NoSettings, TrainingSettings
from layerprune.core.timing import quartiles, seconds

BATCH = 125
STEPS = {"resnet-20": 2, "resnet-56": 1}
"""Architecture, as published -> steps a turn."""
CASES = (("dense", "bf16"), ("gated", "bf16"), ("dense", "fp32"), ("gated", "fp32"))
SETTINGS = {"dense": NoSettings(), "gated": GATED}
USUAL = 3
"""Steps whose median is a usual one."""


def training(engine: str, precision: str) -> TrainingSettings:
    """How this part trains."""
    how = {"batch_size": BATCH, "augment": "crop-flip", "engine": engine, "precision": precision}
    return TRAINING.model_copy(update=how)


def compiled_against_eager(arch: str, method: str, precision: str, rounds: int) -> Measurement:
    """Time of a compiled step over an eager one's; the note has images a second."""
    eager, compiled = (
        steps_of(network_of(arch), method, SETTINGS[method], training(engine, precision), STEPS[arch])
        for engine in ("eager", "compiled")
    )
    pairs = alternate(eager, compiled, rounds)
    rates = [BATCH * STEPS[arch] / statistics.median(times) for times in zip(*pairs, strict=True)]
    name = f"compiled step / eager step, {method}, {precision}, {arch}"
    return of_pairs(name, pairs, note=f"{rates[1]:.0f} against {rates[0]:.0f} images/s")


class Compiling(NamedTuple):
    """Seconds beyond those of usual steps. `first_cpu`: of all cores, compilers included."""

    first: float
    first_cpu: float
    removals: list[float]


def compiling(arch: str, processes: int) -> Iterator[Measurement]:
    """Seconds that a gated training in bf16 compiles before its first step is done, and at each of its removals."""
    told = [_told_by_a_process(arch) for _ in range(processes)]
    note = f"{statistics.median(each.first_cpu for each in told):.0f} CPU-seconds"
    starts, removals = [each.first for each in told], [one for each in told for one in each.removals]
    yield _seconds(f"start-up, compiled, gated, bf16, {arch}, seconds", starts, "<= 30", note)
    yield _seconds(f"a removal, compiled, gated, bf16, {arch}, seconds", removals, "<= 0.5")


def _seconds(name: str, values: list[float], target: str, note: str = "") -> Measurement:
    low, middle, high = quartiles(values) if len(values) > 1 else values * 3
    return Measurement(name, middle, low, high, len(values), target, note)


def _told_by_a_process(arch: str) -> Compiling:
    alone = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as stored, ProcessPoolExecutor(1, alone) as process:
        return process.submit(first_steps, arch, stored).result()


def first_steps(arch: str, stored: str) -> Compiling:
    """Compile, with `stored` as Inductor's folder, and remove four sections."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = stored
    torch.set_num_threads(1)
    network = network_of(arch)
    trainer = trainer_of(network, "gated", GATED, training("compiled", "bf16"))
    trainer.progress.removed_step = [None] * len(network.sections)
    steps = endless(trainer)

    def step() -> None:
        next(steps)

    def usual() -> float:
        return statistics.median(seconds(step) for _ in range(USUAL))

    def removal(place: int) -> float:
        def remove() -> None:
            trainer._remove([place])
            step()

        return seconds(remove) - usual()

    spent = _cpu_seconds()
    first = seconds(step)
    spent = _cpu_seconds() - spent
    first -= usual()
    third = len(network.sections) // 3
    return Compiling(first, spent, [removal(place) for place in (0, 1, third, 2 * third)])


def _cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


def measure(rounds: int, processes: int) -> Iterator[Measurement]:
    """Each network and each case, then what compiling costs."""
    for arch in STEPS:
        for case in CASES:
            yield compiled_against_eager(arch, *case, rounds)
        yield from compiling(arch, processes)
