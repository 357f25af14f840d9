"""Weight Taylor (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over filters of sum (w dC/dw)^2.

Accumulated over batches, on the first weight layer of each branch. Deviations: `sample` images in place of an epoch;
the weights stay put while scoring (the authors' script trains on during the scoring epoch); batch normalisation is in
evaluation mode unless the setting `bn` says train, which is the published form.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.batch_norm_mode import batch_norm_in
from layerprune.core.methods.parts.first_layer import first_layer, mean_over_filters
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import TaylorSettings

VERSION = 1


def score(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], settings: TaylorSettings | None = None
) -> Tensor:
    """Scores [L], summed over the batches of (images, labels)."""
    weights = [first_layer(section.branch).weight for section in model.sections]
    total = torch.zeros(len(weights), device=weights[0].device)
    for images, labels in batches:
        with batch_norm_in((settings or TaylorSettings()).bn, model):
            loss = functional.cross_entropy(model(images), labels)
        slopes = {id(w): slope for w, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True)}
        total += mean_over_filters(model, lambda weight, slopes=slopes: (weight * slopes[id(weight)]).square())
    return total
