"""ImageNet ResNets as torchvision builds them, `imagenet-resnet-<18, 34, 50 or 101>` (He et al., CVPR 2016, Table 1).

    stem: conv 7x7 / 2, 64 -> BN -> ReLU -> max pool 3x3 / 2;   4 stages, the channels doubled and the size halved
    section, 18 and 34:  ReLU( S(x) + BN(conv3x3(ReLU(BN(conv3x3(x))))) )
    section, 50 and 101: ReLU( S(x) + BN(conv1x1(ReLU(BN(conv3x3(ReLU(BN(conv1x1(x)))))))) ), four times as wide outside
    head: mean over the picture -> linear
S is the identity, or where the shape changes a 1x1 convolution and BN (option B). A section's stride is that of its
first 3x3 convolution ("v1.5"), not of the 1x1 before it as in the paper. Oracles: METHODS 1.2 and torchvision itself.
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
CLOSING_NORM = True
"""Whether branches end in batch normalisation."""
STAGES = True
"""Whether sections form stages that can all be shortened alike."""
WIDTH = 64
"""Channels of the stem and inside the first stage."""


def build(arch: str, input_shape: Sequence[int], classes: int, width: int = WIDTH) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]. Raises LayerpruneError for a depth that was not published."""
    found = list(imagenet_places(arch, width))
    stem = nn.Sequential(
        convolution(input_shape[0], width, 7, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(found[-1].behind, classes))
    return SectionedNetwork(arch, input_shape, stem, [_section(place) for place in found], head)


def _section(place: ImageNetPlace) -> Section:
    branch = _branch(place)
    if place.before == place.behind:
        # What comes in has passed a ReLU: another one behind the identity does nothing.
        return Section(place.name, branch, nn.Identity(), nn.ReLU(), nn.Identity())
    projection = convolution(place.before, place.behind, 1, place.stride)
    return Section(place.name, branch, nn.Sequential(projection, nn.BatchNorm2d(place.behind)), nn.ReLU(), nn.ReLU())


def _branch(place: ImageNetPlace) -> nn.Sequential:
    """Convolution and BN of each layer, a ReLU between two layers."""
    layers = [(convolution(*layer), nn.BatchNorm2d(layer[1])) for layer in place.layers]
    first, *rest = layers
    return nn.Sequential(*first, *chain.from_iterable((nn.ReLU(), *each) for each in rest))
