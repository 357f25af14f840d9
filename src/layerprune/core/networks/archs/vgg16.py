"""VGG16-BN for CIFAR (Simonyan & Zisserman, arXiv 1409.1556, with BN) with linear shortcuts around its layers.

    stem: conv1 -> BN;   sections conv2 ... conv13: S(x) + BN(conv(ReLU(pool(x))));   fc: S(x) + linear(ReLU(pool(x)))
It has 64 channels in its first stage, or as many as `width` says. The ReLU opens a section instead of closing
it, so that what a removed section leaves is linear: without all thirteen a linear classifier is left. S is the identity
where shapes agree, else a mean-pool (where the branch max-pools) and a 1x1 convolution. ReLU and max-pool commute.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError

VERSION = 1
BATCH_NORM = False
"""Whether branches contain batch normalisation: that of the section fc does not."""
CLOSING_NORM = True
"""Whether branches end in batch normalisation (that of `fc` in its only linear layer)."""
WIDTH = 64
_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Channels as multiples of the width, and convolutions, stage by stage; every stage after the first halves the size."""


def build(arch: str, input_shape: Sequence[int], classes: int, width: int = WIDTH) -> SectionedNetwork:
    """The network for 32x32 images; 13 sections. Raises LayerpruneError for another size."""
    channels, *size = input_shape
    if size != [32, 32]:
        raise LayerpruneError(f"{arch}: needs 32x32 images, not {'x'.join(map(str, size))}")
    plan = [
        (width * multiple, stage > 0 and place == 0)
        for stage, (multiple, layers) in enumerate(_STAGES)
        for place in range(layers)
    ]
    stem = nn.Sequential(_conv(channels, width), nn.BatchNorm2d(width))
    sections = [
        _section(f"conv{number}", before, after, pooled)
        for number, ((before, _), (after, pooled)) in enumerate(pairwise(plan), start=2)
    ]
    last = plan[-1][0]
    fc = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(last, classes))
    sections.append(Section("fc", fc, nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(last, classes))))
    return SectionedNetwork(arch, input_shape, stem, sections, nn.Identity())


def _section(name: str, before: int, after: int, pooled: bool) -> Section:
    pool = [nn.MaxPool2d(2)] if pooled else []
    branch = nn.Sequential(*pool, nn.ReLU(), _conv(before, after), nn.BatchNorm2d(after))
    shortcut = [nn.AvgPool2d(2)] if pooled else []
    if before != after:
        shortcut.append(nn.Conv2d(before, after, 1, bias=False))
    return Section(name, branch, nn.Sequential(*shortcut) if shortcut else nn.Identity())


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)
