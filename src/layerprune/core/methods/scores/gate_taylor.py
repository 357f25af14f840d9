"""Gate Taylor (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over channels of sum (g dL/dg)^2.

g = 1 is a gate per channel behind the first weight layer's batch normalisation, L a batch's mean cross-entropy; squares
are summed over batches. Deviations: weights and batch statistics stay put (the authors train on during the scoring
epoch); in a branch of three convolutions the first gate alone is scored, and there is no gate on a stage's shortcut; in
a branch without batch normalisation the gate stands behind the layer itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.methods.parts.first_layer import gate_products
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], summed over the batches of (images, labels)."""
    total = torch.zeros(())
    for products in gate_products(model, batches, reduction="mean"):
        # dL/dg of a gate at 1 is a * dL/da, summed over examples and space.
        squares = torch.stack([each.sum((0, 2)).square().mean() for each in products])
        total = total.to(squares.device) + squares
    return total
