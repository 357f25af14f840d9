"""Every method goes on bit for bit on convolutional networks, in float32 and in bfloat16.

Stopped by an exception after an epoch's state was written; that a killed process leaves such a state is shown in
test_resume.py, through the real command line.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from networks import a_run, random_data

from layerprune.core import methods
from layerprune.core.data.dataset import DataSet
from layerprune.core.networks import arch_file
from layerprune.core.settings import ModelSettings
from layerprune.core.training.loop import Trainer
from layerprune.core.training.state import StateFile
from layerprune.suite.run.task import Parent, Task
from layerprune.suite.run.train import Trained, train

NETWORKS = {"resnet-14": (3, 8, 8), "preact-resnet-14": (3, 8, 8), "vgg16": (3, 32, 32)}
"""Architecture -> shape of its images, small where the network can be asked for that."""
KEEP = {"resnet-14": 4, "preact-resnet-14": 4, "vgg16": 9}
SETTINGS: dict[str, dict[str, Any]] = {
    # Prices so high that sections go for certain, in the second epoch.
    "gated": {"nu": 100.0, "theta_lr": 0.01, "check_interval": 2, "checks": 1, "consolidate_at": 0.8},
    "epsilon-resnet": {"epsilon": 1e9, "start": 0.4, "patience": "2it"},
    "gal": {"search": "1ep", "penalty": 1e4},
    "stochastic-depth": {},
    "sss": {"gamma": 1.0},
    "hard-concrete": {"penalty": 1e3},
    "block-influence": {"keep": 3},
}
MODEL = {"block-influence": {"removable": "shape-preserving"}}
PASSED_ON = ("scratch-e", "scratch-b", "by-index")
"""Methods that are given another's keep list."""


def pairs() -> Iterator[tuple[str, str, str]]:
    for arch in NETWORKS:
        for method, family in methods.families().items():
            # Pre-activation changes what a gate meets, not how scores and given layouts are fine-tuned.
            is_tried = family == "trained" or (family != "experiments" and not arch.startswith("preact"))
            if is_tried and methods.lack(method, arch_file(arch)) is None:
                yield arch, method, "fp32"
                # Fine-tuning is the same loop for all scores: bfloat16 once for each family and what is special.
                if family == "trained" or method in ("taylor", "cka", "scratch-e"):
                    yield arch, method, "bf16"


class Interrupted(Exception):
    pass


def make_run(arch: str, method: str, precision: str, state: StateFile) -> Task:
    data = random_data(train=32, validation=12, shape=NETWORKS[arch])
    settings = SETTINGS.get(method, {})
    if method not in SETTINGS and method not in ("dense", *PASSED_ON):
        settings = {"keep": KEEP[arch]}
    run = a_run(
        method,
        data,
        arch,
        settings=settings,
        parents={},
        finetune={"duration": "2ep", "lr": 1e-3},
        duration="3ep",
        batch_size=8,
        lr=1e-3,
        precision=precision,
    )
    run = replace(
        run,
        settings=run.settings.model_copy(update={"model": ModelSettings(width=4, **MODEL.get(method, {}))}),
        state=state,
    )
    return replace(run, parents=_parents(run, data))


def _parents(run: Task, data: DataSet) -> dict[str, Parent]:
    """A dense network and a gated run that cost nothing, where the method starts from one."""
    starts_from_dense = methods.families()[run.settings.method] == "scores" or run.settings.method in (
        "gal",
        "by-index",
    )
    dense = Parent(SimpleNamespace(train_macs=0, wall_seconds=0.0), lambda: run.fresh_network("parent"))
    sections = len(run.fresh_network().sections)
    keep = [int(index < KEEP[run.settings.arch]) for index in range(sections)]
    gated = Parent(SimpleNamespace(keep=keep), lambda: run.fresh_network("parent"))
    return ({"dense": dense} if starts_from_dense else {}) | {"gated": gated}


def state_file(folder: Path) -> StateFile:
    return StateFile(folder / "state", "this run", 0)


def interrupted(run: Task, epochs: int) -> None:
    """Run until so many epochs are done and stored."""
    epoch = Trainer._epoch

    def stopping(trainer: Trainer) -> None:
        if trainer.progress.epoch == epochs:
            raise Interrupted
        epoch(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "_epoch", stopping)
        train(run)


def outcome(finished: Trained) -> tuple[Any, ...]:
    """Everything but times."""
    progress = vars(finished.progress) | {"wall_seconds": 0, "resumed": 0}
    progress["rows"] = [row | {"wall_seconds": 0} for row in progress["rows"]]
    return finished.outcome, progress, finished.start.details, finished.start.before_finetune


@pytest.mark.parametrize(("arch", "method", "precision"), list(pairs()), ids=lambda part: part)
def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path: Path, arch: str, method: str, precision: str) -> None:
    undisturbed = train(make_run(arch, method, precision, StateFile(None, "", 0)))
    stops = [epochs for epochs in (1, 2) if epochs < undisturbed.progress.epoch]
    for epochs in stops:
        interrupted(make_run(arch, method, precision, state_file(tmp_path)), epochs)
    resumed = train(make_run(arch, method, precision, state_file(tmp_path)))
    assert resumed.progress.resumed == len(stops)
    assert outcome(resumed) == outcome(undisturbed)
    first, second = undisturbed.network.state_dict(), resumed.network.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("arch", "method"),
    [pair for *pair, precision in pairs() if pair[1] in ("gated", "gal", "cka") and precision == "fp32"],
)
def test_the_runs_above_lose_sections_while_they_train(arch: str, method: str) -> None:
    finished = train(make_run(arch, method, "fp32", StateFile(None, "", 0)))
    gone = [step for step in finished.progress.removed_step if step is not None]
    assert any(0 < step < finished.progress.step for step in gone)
