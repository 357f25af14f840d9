"""Feature-map Taylor (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over filters of |a dL/da|.

|a dL/da| is averaged over examples and space at the gate behind the first weight layer's batch normalisation and
divided by its L2 norm over the layer's filters: a layer of C filters scores between 1/C and 1/sqrt(C), or 0 where
nothing reaches the loss; so whatever the data are, the widest stage scores lowest and goes first, unless a few of its
filters take nearly all. Deviations: `sample` images in place of an epoch; weights and running statistics stay put (the
authors train on during the scoring epoch); batch normalisation is in evaluation mode unless the setting `bn` says
train, which is the published form; every example counts the same, those of a smaller last batch too; in a branch of
three convolutions the first gate alone is scored; in a branch without batch normalisation the gate stands behind the
layer itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.batch_norm_mode import batch_norm_in
from layerprune.core.methods.parts.first_layer import gate_products
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import TaylorSettings

VERSION = 1


def score(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], settings: TaylorSettings | None = None
) -> Tensor:
    """Scores [L] over all batches of (images, labels)."""
    totals: list = [0] * len(model.sections)
    with batch_norm_in((settings or TaylorSettings()).bn, model):
        for products in gate_products(model, batches, reduction="sum"):
            totals = [total + _by_filter(each) for total, each in zip(totals, products, strict=True)]
    return torch.stack([_mean_of_normalised(total) for total in totals]).float()


def _by_filter(products: Tensor) -> Tensor:
    """Sums [C] in place of means: the norm takes out the number of examples and of positions."""
    return products.abs().sum((0, 2), dtype=torch.float64)


def _mean_of_normalised(by_filter: Tensor) -> Tensor:
    return functional.normalize(by_filter, dim=0, eps=torch.finfo(by_filter.dtype).tiny).mean()
