"""Gate Taylor (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over channels of sum (g dL/dg)^2.

g = 1 is a gate per channel behind the first weight layer's batch normalisation, L a batch's mean cross-entropy; squares
are summed over batches. Deviations: `sample` images in place of an epoch; weights and running statistics stay put (the
authors train on during the scoring epoch); batch normalisation is in evaluation mode unless the setting `bn` says
train, which is the published form; in a branch of three convolutions the first gate alone is scored, and there is no
gate on a stage's shortcut; in a branch without batch normalisation the gate stands behind the layer itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.methods.parts.batch_norm_mode import batch_norm_in
from layerprune.core.methods.parts.first_layer import gate_products
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import TaylorSettings

VERSION = 1


def score(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], settings: TaylorSettings | None = None
) -> Tensor:
    """Scores [L], summed over the batches of (images, labels)."""
    total = torch.zeros(())
    with batch_norm_in((settings or TaylorSettings()).bn, model):
        for products in gate_products(model, batches, reduction="mean"):
            # dL/dg of a gate at 1 is a * dL/da, summed over examples and space.
            squares = torch.stack([each.sum((0, 2)).square().mean() for each in products])
            total = total.to(squares.device) + squares
    return total
