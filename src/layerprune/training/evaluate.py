"""Loss and accuracy on a split, every example counted once (a ragged last batch too)."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from layerprune.data.batches import evaluation_batches
from layerprune.data.dataset import DataSet, Split
from layerprune.models.sections import Gates, SectionedNetwork
from layerprune.training.precision import autocast

BATCH = 1000


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and accuracy in [0, 1]."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(
    network: SectionedNetwork, data: DataSet, split: Split, gates: Gates = None, precision: str = "fp32"
) -> Score:
    """Score of a network in evaluation mode; its mode is put back afterwards."""
    was_training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64, device=split.images.device)
    right = torch.zeros((), dtype=torch.int64, device=split.images.device)
    for images, labels in evaluation_batches(split, data.mean, data.std, BATCH):
        with autocast(precision, images.device):
            logits = network(images, gates).float()
        loss += functional.cross_entropy(logits, labels, reduction="sum")
        right += (logits.argmax(1) == labels).sum()
    network.train(was_training)
    return Score(float(loss) / len(split), int(right) / len(split))
