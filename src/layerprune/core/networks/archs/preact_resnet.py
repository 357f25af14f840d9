"""CIFAR pre-activation ResNets, `preact-resnet-<depth>` with depth 6n + 2 (He et al., ECCV 2016, arXiv 1603.05027).

    stem: conv 3x3, 16;   3 stages of n sections with 16, 32, 64 channels, stages 2 and 3 at half the size
    section: S(x) + conv(ReLU(BN(conv(ReLU(BN(x))))));   head: BN -> ReLU -> mean over the picture -> linear
S is the identity, or where the shape changes a mean-pool, padded with zero channels (METHODS M7). Nothing follows the
addition and no branch ends in BN, so that a branch may fade to zero with its weights. MACs are those of `resnet`.
"""

from collections.abc import Sequence

from torch import nn

from layerprune.core.networks.archs._stages import CifarPlace, cifar_places, conv3x3
from layerprune.core.networks.sections import Section, SectionedNetwork, ZeroPadShortcut
from layerprune.errors import LayerpruneError

VERSION = 1
NUMBERED = (8, 10_000, 6)
BATCH_NORM = True
"""Whether branches contain batch normalisation."""
CLOSING_NORM = False
"""Whether branches end in batch normalisation."""
STAGES = True
"""Whether sections form stages that can all be shortened alike."""
WIDTH = 16
"""Channels of the stem and the first stage."""


def build(arch: str, input_shape: Sequence[int], classes: int, width: int = WIDTH) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W].

    Raises LayerpruneError for a depth that is not 6n + 2, and for a size that cannot be halved twice.
    """
    channels, *size = input_shape
    if any(length % 4 for length in size):
        raise LayerpruneError(f"{arch}: needs images of a size divisible by 4, not {'x'.join(map(str, size))}")
    sections = [_section(place) for place in cifar_places(arch, width)]
    last = 4 * width
    head = nn.Sequential(
        nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)
    )
    return SectionedNetwork(arch, input_shape, conv3x3(channels, width), sections, head)


def _section(place: CifarPlace) -> Section:
    branch = nn.Sequential(
        nn.BatchNorm2d(place.before),
        nn.ReLU(),
        conv3x3(place.before, place.channels, place.stride),
        nn.BatchNorm2d(place.channels),
        nn.ReLU(),
        conv3x3(place.channels, place.channels),
    )
    halved = nn.Sequential(nn.AvgPool2d(2), ZeroPadShortcut(place.channels, stride=1))
    return Section(place.name, branch, halved if place.changes_shape else nn.Identity())
