"""The ends of what settings and data may be: one class, one batch larger than the data, the largest seed, no image."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cifar_helpers import write_tree
from networks import a_run, random_data

from layerprune.core.data import cifar
from layerprune.core.data.batches import TrainingBatches
from layerprune.core.data.catalog import CIFAR10_JPEG
from layerprune.core.data.dataset import DataSet, Split
from layerprune.core.seeding import generator
from layerprune.core.training.evaluate import evaluate
from layerprune.errors import LayerpruneError
from layerprune.suite.run.train import train

LARGEST_SEED = 2**31 - 1


def one_class() -> DataSet:
    data = random_data()

    def single(split: Split) -> Split:
        return replace(split, labels=torch.zeros_like(split.labels))

    return replace(data, classes=1, **{name: single(getattr(data, name)) for name in ("train", "validation", "test")})


@pytest.mark.parametrize("method", ["dense", "gated", "sss", "stochastic-depth"])
def test_of_one_class_every_example_is_right(method: str) -> None:
    data = one_class()
    trained = train(a_run(method, data))
    score = evaluate(trained.network, data, data.validation)
    assert (score.accuracy, score.loss) == (1.0, 0.0)


@pytest.mark.parametrize("method", ["dense", "gated", "hard-concrete"])
def test_a_batch_larger_than_the_data_is_all_of_it(method: str) -> None:
    trained = train(a_run(method, random_data(train=60), batch_size=10_000, duration="3ep"))
    assert trained.steps_per_epoch == 1 and trained.progress.step == 3
    assert all(math.isfinite(value) for value in trained.network.state_dict()["head.weight"].flatten().tolist())


def test_a_batch_larger_than_the_data_holds_every_example_once() -> None:
    data = random_data(train=60)
    batches = TrainingBatches(data.train, data.mean, data.std, 2**31 - 1, seed=0)
    ((images, labels),) = batches.epoch(0)
    assert len(images) == 60 and sorted(labels.tolist()) == sorted(data.train.labels.tolist())


def test_an_empty_split_has_no_score() -> None:
    data = random_data(validation=0)
    with pytest.raises(LayerpruneError, match="noise: a split without examples has no score"):
        train(a_run("dense", data))


def test_of_too_few_images_none_can_be_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    write_tree(tmp_path / "cifar10-jpeg", train=1, test=1)
    data = cifar.load(tmp_path, replace(CIFAR10_JPEG, classes=10))
    assert len(data.train) + len(data.validation) == 10


@pytest.mark.parametrize("method", ["dense", "gated"])
def test_the_largest_seed_gives_numbers_of_its_own_and_the_same_again(method: str) -> None:
    first, second, other = (
        train(a_run(method, seed=seed)).network.state_dict()["head.weight"]
        for seed in (LARGEST_SEED, LARGEST_SEED, LARGEST_SEED - 1)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_streams_of_the_largest_seeds_differ() -> None:
    drawn = {
        torch.rand(1, generator=generator("order", seed, epoch)).item()
        for seed in (0, 1, LARGEST_SEED - 1, LARGEST_SEED)
        for epoch in (0, 1, 2**31 - 1)
    }
    assert len(drawn) == 12
