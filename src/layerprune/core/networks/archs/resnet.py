"""CIFAR ResNets, `resnet-<depth>` with depth 6n + 2 (He et al., CVPR 2016, arXiv 1512.03385, section 4.2).

    stem: conv 3x3, 16 -> BN -> ReLU;   3 stages of n sections with 16, 32, 64 channels, stages 2 and 3 at half the size
    section: ReLU( S(x) + BN(conv(ReLU(BN(conv(x))))) );   head: mean over the picture -> linear
S is the identity, or where the shape changes option A (subsample, pad with zero channels), or option B (1x1 convolution
and BN). A first section of a stage that loses its branch keeps its shortcut. Oracles: METHODS 1.1, to the last MAC.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from layerprune.core.networks.archs._stages import CifarPlace, cifar_places, conv3x3
from layerprune.core.networks.sections import Section, SectionedNetwork, ZeroPadShortcut

VERSION = 1
NUMBERED = (8, 10_000, 6)
BATCH_NORM = True
"""Whether branches contain batch normalisation."""
CLOSING_NORM = True
"""Whether branches end in batch normalisation."""
STAGES = True
"""Whether sections form stages that can all be shortened alike."""
WIDTH = 16
"""Channels of the stem and the first stage."""


def build(
    arch: str, input_shape: Sequence[int], classes: int, shortcut: Literal["a", "b"] = "a", width: int = WIDTH
) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]. Raises LayerpruneError for a depth that is not 6n + 2."""
    sections = [_section(place, shortcut) for place in cifar_places(arch, width)]
    stem = nn.Sequential(conv3x3(input_shape[0], width), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))
    return SectionedNetwork(arch, input_shape, stem, sections, head)


def _section(place: CifarPlace, option: str) -> Section:
    branch = nn.Sequential(
        conv3x3(place.before, place.channels, place.stride),
        nn.BatchNorm2d(place.channels),
        nn.ReLU(),
        conv3x3(place.channels, place.channels),
        nn.BatchNorm2d(place.channels),
    )
    shortcut = _shortcut(place, option) if place.changes_shape else nn.Identity()
    # What comes in has passed a ReLU, and only option B can make it negative again.
    rest = nn.ReLU() if place.changes_shape and option == "b" else nn.Identity()
    return Section(place.name, branch, shortcut, nn.ReLU(), rest)


def _shortcut(place: CifarPlace, option: str) -> nn.Module:
    if option == "a":
        return ZeroPadShortcut(place.channels, place.stride)
    projection = nn.Conv2d(place.before, place.channels, 1, place.stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(place.channels))
