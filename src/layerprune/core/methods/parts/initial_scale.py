"""Another scale of the weights at the start, for claim C6: how far does what is left depend on the initialisation?"""

import torch
from torch import nn

from layerprune.core.networks.sections import SectionedNetwork


@torch.no_grad()
def scale_branches(network: SectionedNetwork, factor: float) -> None:
    """Multiply the weights of linear layers and convolutions in all branches, biases and normalisations left alone."""
    if factor == 1:
        return
    for section in network.chain:
        for layer in section.branch.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(factor)
