"""Pre-activation ImageNet ResNets, `imagenet-preact-resnet-<18, 34, 50, 101>` (He et al., ECCV 2016, arXiv 1603.05027).

    stem: conv 7x7 / 2, 64 -> max pool 3x3 / 2;   4 stages as in `imagenet-resnet`
    section: S(x) + conv(ReLU(BN( ... conv(ReLU(BN(x))))));   head: BN -> ReLU -> mean over the picture -> linear
S is the identity, or where the shape changes a 1x1 convolution of x itself, not of ReLU(BN(x)) as published: what stays
of a removed section has to be linear. Nothing follows the addition and no branch ends in BN, so that a branch may fade
to zero with its weights (epsilon-ResNet's ImageNet networks are of this kind). MACs are those of `imagenet-resnet`.
"""

from collections.abc import Sequence
from itertools import chain

from torch import nn

from layerprune.core.networks.archs._stages import ImageNetPlace, convolution, imagenet_places
from layerprune.core.networks.sections import Section, SectionedNetwork

VERSION = 1
NUMBERED = {18, 34, 50, 101}
BATCH_NORM = True
"""Whether branches contain batch normalisation."""
CLOSING_NORM = False
"""Whether branches end in batch normalisation."""
STAGES = True
"""Whether sections form stages that can all be shortened alike."""
WIDTH = 64
"""Channels of the stem and inside the first stage."""


def build(arch: str, input_shape: Sequence[int], classes: int, width: int = WIDTH) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]. Raises LayerpruneError for a depth that was not published."""
    found = list(imagenet_places(arch, width))
    stem = nn.Sequential(convolution(input_shape[0], width, 7, 2), nn.MaxPool2d(3, 2, padding=1))
    last = found[-1].behind
    head = nn.Sequential(
        nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)
    )
    return SectionedNetwork(arch, input_shape, stem, [_section(place) for place in found], head)


def _section(place: ImageNetPlace) -> Section:
    layers = ((nn.BatchNorm2d(layer[0]), nn.ReLU(), convolution(*layer)) for layer in place.layers)
    branch = nn.Sequential(*chain.from_iterable(layers))
    if place.before == place.behind:
        return Section(place.name, branch, nn.Identity())
    return Section(place.name, branch, convolution(place.before, place.behind, 1, place.stride))
