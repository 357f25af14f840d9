"""Leave-one-out: the rise of the validation loss when one section is closed (cf. Wu, Davoodi, Hu, arXiv 2312.16904).

Deviation: one pass over all sections instead of a greedy search that fine-tunes after each removal.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork

VERSION = 1
LOOKS_AT = "validation"


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: summed cross-entropy with section l closed, minus that of the whole network."""
    count = len(model.sections)
    total = torch.zeros(count)
    with torch.no_grad():
        for images, labels in batches:
            whole = _loss(model, images, labels, None)
            for index in range(count):
                closed: Gates = [CLOSED if each == index else None for each in range(count)]
                total[index] += (_loss(model, images, labels, closed) - whole).cpu()
    return total


def _loss(model: SectionedNetwork, images: Tensor, labels: Tensor, gates: Gates) -> Tensor:
    return functional.cross_entropy(model(images, gates), labels, reduction="sum")
