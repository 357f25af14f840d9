"""A residual MLP with any number of sections, `mlp-residual-<n>`: x + W relu(x), width 100, behind a linear stem.

Each section is one weight layer with an identity shortcut. Its weights start smaller by 1/sqrt(n): a plain residual
MLP with 20 sections diverges otherwise, and sections of networks of different depth stay comparable.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError

VERSION = 1
NUMBERED = (1, 10_000)
BATCH_NORM = False
"""Whether branches contain batch normalisation."""
CLOSING_NORM = False
"""Whether branches end in batch normalisation."""
WIDTH = 100


def build(arch: str, input_shape: Sequence[int], classes: int) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]; the slug's last part is the number of sections."""
    number = arch.rpartition("-")[2]
    if not number.isdigit() or int(number) < 1:
        raise LayerpruneError(f"{arch}: name the number of sections, as in mlp-residual-20")
    sections = [
        Section(f"section{index:02d}", nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, WIDTH)))
        for index in range(int(number))
    ]
    stem = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), WIDTH))
    return SectionedNetwork(arch, input_shape, stem, sections, nn.Linear(WIDTH, classes))


def rescale(network: SectionedNetwork) -> None:
    """Shrink every branch's start by 1/sqrt(n)."""
    with torch.no_grad():
        for section in network.sections:
            section.branch[-1].weight.mul_(len(network.sections) ** -0.5)
