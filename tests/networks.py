"""Small networks, data and runs for tests of the training core. Biases are random: zeros hide mistakes."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.data import load
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.methods import settings_class
from layerprune.core.methods.base import Context
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import FinetuneSettings, TrainingSettings
from layerprune.core.training.state import StateFile
from layerprune.suite.config import RunSettings
from layerprune.suite.run.task import Parent, Task

CPU = torch.device("cpu")
IMAGE = (1, 28, 28)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(arch: str, seed: int = 0, shape: tuple[int, int, int] = IMAGE) -> SectionedNetwork:
    """An architecture with random weights and random biases."""
    network = build(arch, shape, 10, source(seed))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=source(seed + 1)))
    return network


def enliven(network: SectionedNetwork) -> SectionedNetwork:
    """The network with BN layers that do not happen to be the identity, in evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                values.copy_(torch.rand(values.shape, generator=source(1)) + 0.5)
            for values in (layer.bias.data, layer.running_mean):
                values.copy_(torch.randn(values.shape, generator=source(2)) / 4)
    return network.eval()


def images(count: int, shape: tuple[int, int, int] = IMAGE, seed: int = 5) -> Tensor:
    return torch.randn(count, *shape, generator=source(seed))


def every_keep_list(sections: int) -> list[list[int]]:
    return [list(keep) for keep in itertools.product((0, 1), repeat=sections)]


def random_keep_lists(sections: int, count: int) -> Iterator[list[int]]:
    """Lists of every density, from nearly nothing kept to nearly everything."""
    generator = source(sections)
    for index in range(count):
        density = (index + 0.5) / count
        yield (torch.rand(sections, generator=generator) < density).int().tolist()


@lru_cache(maxsize=1)
def digits() -> DataSet:
    return load("digits", Path("unused"), CPU)


def random_data(train: int = 60, validation: int = 17, shape: tuple[int, int, int] = (1, 4, 4)) -> DataSet:
    """Noise with labels, for tests that look at the machinery and not at what is learnt."""
    generator = source(9)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, *shape), generator=generator).to(torch.uint8)
        return Split(pixels, torch.randint(0, 10, (count,), generator=generator))

    parts = split(train), split(validation), split(validation)
    mean, std = channel_statistics(parts[0].images)
    return DataSet("noise", "noise", 10, *parts, mean, std, {})


def a_run(
    method: str,
    data: DataSet | None = None,
    arch: str = "mlp-residual-4",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    parents: dict[str, Parent] | None = None,
    finetune: dict[str, Any] | None = None,
    **training: Any,
) -> Task:
    """A run that touches no file; by default one epoch on noise, at a learning rate that cannot diverge.

    So short a run of gated has no room for a warm-up.
    """
    if method == "gated":
        settings = {"warmup": "0ep"} | (settings or {})
    if method == "gal" and parents is None:
        parents = {"dense": a_dense_parent(arch, data or random_data())}
        finetune = {"duration": "1ep", "lr": 1e-4} | (finetune or {})  # its logits are far from any label's
    science = RunSettings(
        dataset="digits",
        arch=arch,
        method=method,
        seed=seed,
        training=TrainingSettings(**({"duration": "1ep", "batch_size": 16, "lr": 0.01} | training)),
        finetune=FinetuneSettings(**(finetune or {"duration": "1ep"})),
        settings=settings_class(method)(**(settings or {})).model_dump(mode="json"),
    )
    return Task(science, data or random_data(), CPU, parents or {}, StateFile(None, "", 1e9), lambda *told: None)


def a_dense_parent(arch: str, data: DataSet) -> Parent:
    """A finished dense run that cost nothing."""
    record = SimpleNamespace(keep=None, train_macs=0, wall_seconds=0.0, status="ok")
    return Parent(record, lambda: make(arch, shape=tuple(data.train.images.shape[1:])))


def a_context(network: SectionedNetwork, **changes: Any) -> Context:
    """A context of ten steps an epoch and two epochs."""
    return replace(Context.of(network, 1000, TrainingSettings(batch_size=100), 20, 0, CPU), **changes)


def no_losses(gates: Any) -> Tensor:
    raise AssertionError("this estimator asked for a second forward pass")


def a_trainer(run: Task) -> Any:
    """A trainer of a trained method, at its first step, and the batches of its first epoch."""
    from layerprune.suite.run.starts import start_of
    from layerprune.suite.run.train import batches_of, trainer_of

    batches = batches_of(run)
    trainer = trainer_of(run, start_of(run, batches), batches)
    trainer.network.train()
    trainer.method.start_epoch(0)
    return trainer
