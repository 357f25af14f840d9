"""Loss and accuracy on a split, every example counted once (a ragged last batch too), by one process or by several."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from layerprune.core.data.batches import evaluation_batches
from layerprune.core.data.dataset import AnySplit, DataSet
from layerprune.core.measure import evaluating
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.training.engine import autocast
from layerprune.errors import LayerpruneError
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

BATCH = 1000
PIXELS = BATCH * 64 * 64
"""Larger images are evaluated fewer at a time: their feature maps must fit into memory."""
TOP5_FROM = 20
"""From this number of classes on, top-5 accuracy is reported."""


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and accuracies in [0, 1]; `top5` with many classes only."""

    loss: float
    accuracy: float
    top5: float | None


@torch.no_grad()
def evaluate(
    network: SectionedNetwork,
    data: DataSet,
    split: AnySplit,
    gates: Gates = None,
    precision: str = "fp32",
    group: ProcessGroup = SINGLE_PROCESS,
) -> Score:
    """Score of a network in evaluation mode; its mode is put back afterwards. Several processes share the examples.

    Raises LayerpruneError for a split without any.
    """
    if len(split) == 0:
        raise LayerpruneError(f"{data.name}: a split without examples has no score: the data set is too small")
    # Of each example the loss and whether it was right, right among five, and there: all sums.
    sums = torch.zeros(4, dtype=torch.float64, device=split.device)
    with evaluating(network):
        for images, labels in evaluation_batches(_share(split, group), data.mean, data.std, batch_size(data)):
            with autocast(precision, images.device):
                logits = network(images, gates).float()
            sums[0] += functional.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(1) == labels).sum()
            if data.classes >= TOP5_FROM:
                sums[2] += (logits.topk(5).indices == labels[:, None]).sum()
            sums[3] += len(labels)
    group.add_up(sums)
    loss, right, among_five, count = sums.tolist()
    return Score(loss / count, right / count, among_five / count if data.classes >= TOP5_FROM else None)


def batch_size(data: DataSet) -> int:
    """How many images are evaluated at a time."""
    _, height, width = data.shape
    return max(1, min(BATCH, PIXELS // (height * width)))


def _share(split: AnySplit, group: ProcessGroup) -> AnySplit:
    if group.size == 1:
        return split
    return split.take(torch.arange(len(split), device=split.labels.device)[group.mine(len(split))])
