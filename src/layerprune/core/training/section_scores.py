"""Scores of the sections of a trained network, and which of them stay."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from layerprune.core.data.batches import evaluation_batches
from layerprune.core.data.dataset import AnySplit, DataSet
from layerprune.core.measure import MacMeter, evaluating
from layerprune.core.methods.base import checked_scores
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.seeding import drawing_from, generator

Score = Callable[[SectionedNetwork, Iterable[tuple[Tensor, Tensor]]], Tensor]
BATCH = 128


class Sample:
    """Batches (images, labels) of a split that can be gone through again and again."""

    def __init__(self, data: DataSet, split: AnySplit) -> None:
        self.data = data
        self.split = split

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return evaluation_batches(self.split, self.data.mean, self.data.std, BATCH)


def draw_sample(data: DataSet, looks_at: str, size: int, seed: int) -> Sample:
    """The whole validation split, or `size` examples of the training split; in an order drawn by seed.

    Images that are stored by class would otherwise come class by class, and a batch of them be no sample.
    """
    split, size = (data.validation, None) if looks_at == "validation" else (data.train, size)
    order = torch.randperm(len(split), generator=generator("sample", seed))[:size]
    return Sample(data, split.take(order.to(split.labels.device)))


def metered_score(
    score: Score, model: SectionedNetwork, sample: Sample, seed: int, slug: str = "score"
) -> tuple[list[float], int]:
    """Scores of the removable sections that are alive and the multiply-adds that they cost; no gradients stay behind.

    Raises SettingError, which names the method, for a score that does not return a finite number for each section.
    """
    with model.only_alive(), drawing_from(generator("score", seed)):
        scores, macs = _metered(score, model, sample)
        return checked_scores(slug, scores, [section.name for section in model.sections]), macs


def _metered(score: Score, model: SectionedNetwork, sample: Sample) -> tuple[Any, int]:
    meter = MacMeter(model)

    def count(module: SectionedNetwork, inputs: tuple, output: Tensor) -> None:
        add = meter.add_step if torch.is_grad_enabled() else meter.add_forward
        add(len(output), inputs[1] if len(inputs) > 1 else None)

    handle = model.register_forward_hook(count)
    try:
        with evaluating(model):
            scores = score(model, sample)
    finally:
        handle.remove()
        model.zero_grad(set_to_none=True)  # the first step of training would add them to its own
    return scores, meter.total
