"""Reducing numbers of a branch's weights to one score a section."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import SectionedNetwork


def first_layer(branch: nn.Module) -> nn.Module:
    """The first weight layer of a branch, which LayerPrune scores."""
    return next(layer for layer in branch.modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def mean_over_filters(model: SectionedNetwork, number: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores [L]: `number(weight)` summed within each filter (row) of the first layer, averaged over filters."""
    with torch.no_grad():
        return torch.stack(
            [number(first_layer(section.branch).weight).flatten(1).sum(1).mean() for section in model.sections]
        )
