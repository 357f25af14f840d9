"""ImageNet ResNets as torchvision builds them, `imagenet-resnet-<18, 34, 50 or 101>` (He et al., CVPR 2016, Table 1).

    stem: conv 7x7 / 2, 64 -> BN -> ReLU -> max pool 3x3 / 2;   4 stages, the channels doubled and the size halved
    section, 18 and 34:  ReLU( S(x) + BN(conv3x3(ReLU(BN(conv3x3(x))))) )
    section, 50 and 101: ReLU( S(x) + BN(conv1x1(ReLU(BN(conv3x3(ReLU(BN(conv1x1(x)))))))) ), four times as wide outside
    head: mean over the picture -> linear
S is the identity, or where the shape changes a 1x1 convolution and BN (option B). A section's stride is that of its
first 3x3 convolution ("v1.5"), not of the 1x1 before it as in the paper. Oracles: METHODS 1.2 and torchvision itself.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.models.sections import Section, SectionedNetwork

NUMBERED = True
BATCH_NORM = True
"""Whether branches contain batch normalisation."""
CLOSING_NORM = True
"""Whether branches end in batch normalisation."""
STAGES = True
"""Whether sections stand in stages that can be shortened alike."""
WIDTH = 64
"""Channels of the stem and inside the first stage."""
SECTIONS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Depth -> sections of each stage."""
BOTTLENECK_FROM = 50
EXPANSION = 4
"""Channels outside a bottleneck as a multiple of those inside."""


class Place(NamedTuple):
    """One section's place: its name, the channels before it, inside it and behind it, and its stride."""

    name: str
    before: int
    inside: int
    behind: int
    stride: int


def build(arch: str, input_shape: Sequence[int], classes: int, width: int = WIDTH) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]. Raises LayerpruneError for a depth that was not published."""
    depth = _depth(arch)
    found = list(places(depth, width))
    branch = _bottleneck if depth >= BOTTLENECK_FROM else _basic
    stem = nn.Sequential(
        nn.Conv2d(input_shape[0], width, 7, 2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(found[-1].behind, classes))
    return SectionedNetwork(arch, input_shape, stem, [_section(place, branch(place)) for place in found], head)


def _depth(arch: str) -> int:
    number = arch.rpartition("-")[2]
    if number not in map(str, SECTIONS):
        raise LayerpruneError(
            f"{arch}: published are the depths {', '.join(map(str, SECTIONS))}, as imagenet-resnet-50"
        )
    return int(number)


def places(depth: int, width: int) -> Iterator[Place]:
    """The sections of the network of this depth, in order."""
    before = width
    for stage, count in enumerate(SECTIONS[depth]):
        inside = width * 2**stage
        behind = inside * (EXPANSION if depth >= BOTTLENECK_FROM else 1)
        for number in range(count):
            halves = stage > 0 and number == 0
            yield Place(f"stage{stage + 1}.{number}", before, inside, behind, 2 if halves else 1)
            before = behind


def _section(place: Place, branch: nn.Sequential) -> Section:
    if place.before == place.behind:
        # What comes in has passed a ReLU: another one behind the identity does nothing.
        return Section(place.name, branch, nn.Identity(), nn.ReLU(), nn.Identity())
    projection = nn.Conv2d(place.before, place.behind, 1, place.stride, bias=False)
    return Section(place.name, branch, nn.Sequential(projection, nn.BatchNorm2d(place.behind)), nn.ReLU(), nn.ReLU())


def _basic(place: Place) -> nn.Sequential:
    return nn.Sequential(
        *_normalised(place.before, place.inside, 3, place.stride),
        nn.ReLU(),
        *_normalised(place.inside, place.behind, 3),
    )


def _bottleneck(place: Place) -> nn.Sequential:
    return nn.Sequential(
        *_normalised(place.before, place.inside, 1),
        nn.ReLU(),
        *_normalised(place.inside, place.inside, 3, place.stride),
        nn.ReLU(),
        *_normalised(place.inside, place.behind, 1),
    )


def _normalised(before: int, after: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(after)
