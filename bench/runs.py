"""Whole runs: wall time of gated training against dense, from fresh weights to the last step, on the digits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from bench.timing import Measurement, compare
from layerprune.core.data import load
from layerprune.core.settings import FinetuneSettings, TrainingSettings
from layerprune.core.training.state import StateFile
from layerprune.suite.config import RunSettings
from layerprune.suite.run.task import Task
from layerprune.suite.run.train import Trained, train

ARCH = "mlp-residual-20"
# Sections go early, as they do in long trainings, and five are left: a price alone would leave none in so short a run.
GATED = {"target_depth": 5, "nu": 0.01, "theta_lr": 2.0, "warmup": "1ep", "check_interval": 5}


def run_of(method: str, settings: dict, epochs: int) -> Task:
    """A run that writes nothing."""
    training = TrainingSettings(duration=f"{epochs}ep", batch_size=64, lr=0.02)
    described = RunSettings(
        dataset="digits",
        arch=ARCH,
        method=method,
        seed=0,
        training=training,
        finetune=FinetuneSettings(),
        settings=settings,
    )
    cpu = torch.device("cpu")
    data = load("digits", Path(), cpu)
    return Task(described, data, cpu, {}, StateFile(None, "", 0), lambda done, total, text: None)


def gated_against_dense(rounds: int, epochs: int) -> Measurement:
    """Wall time of a gated run over a dense one, evaluation after each epoch included."""
    dense, gated = run_of("dense", {}, epochs), run_of("gated", GATED, epochs)
    finished: list[Trained] = []
    name = f"gated run / dense run, {ARCH}, {epochs} epochs of digits"
    measured = compare(name, lambda: train(dense), lambda: finished.append(train(gated)), rounds, "<= 1.0")
    left, total = sum(finished[-1].outcome.keep), len(finished[-1].outcome.keep)
    if left == 0:  # what trains nothing is fast
        return replace(measured, target="", note=f"collapsed: 0 of {total} sections left")
    return replace(measured, note=f"{left} of {total} sections left")


def measure(rounds: int, epochs: int) -> Iterator[Measurement]:
    """The one comparison there is."""
    yield gated_against_dense(rounds, epochs)
