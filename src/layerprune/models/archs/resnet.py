"""CIFAR ResNets, `resnet-<depth>` with depth 6n + 2 (He et al., CVPR 2016, arXiv 1512.03385, section 4.2).

    stem: conv 3x3, 16 -> BN -> ReLU;   3 stages of n sections with 16, 32, 64 channels, stages 2 and 3 at half the size
    section: ReLU( S(x) + BN(conv(ReLU(BN(conv(x))))) );   head: mean over the picture -> linear
S is the identity, or where the shape changes option A (subsample, pad with zero channels), or option B (1x1 convolution
and BN). A first section of a stage that loses its branch keeps its shortcut. Oracles: METHODS 1.1, to the last MAC.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.models.parts.zero_pad_shortcut import ZeroPadShortcut
from layerprune.models.sections import Section, SectionedNetwork

NUMBERED = True
WIDTH = 16
"""Channels of the stem and the first stage."""


def build(
    arch: str, input_shape: Sequence[int], classes: int, shortcut: Literal["a", "b"] = "a", width: int = WIDTH
) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]. Raises LayerpruneError for a depth that is not 6n + 2."""
    sections = [
        _section(stage, place, width, shortcut) for stage in range(3) for place in range(_sections_a_stage(arch))
    ]
    stem = nn.Sequential(_conv(input_shape[0], width), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))
    return SectionedNetwork(arch, input_shape, stem, sections, head)


def _sections_a_stage(arch: str) -> int:
    number = arch.rpartition("-")[2]
    if not number.isdigit() or int(number) < 8 or int(number) % 6 != 2:
        raise LayerpruneError(f"{arch}: name a depth of 6n + 2, as in resnet-20, resnet-32, resnet-56, resnet-110")
    return int(number) // 6


def _section(stage: int, place: int, width: int, option: str) -> Section:
    channels = width * 2**stage
    changes = stage > 0 and place == 0
    before, stride = (channels // 2, 2) if changes else (channels, 1)
    branch = nn.Sequential(
        _conv(before, channels, stride),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        _conv(channels, channels),
        nn.BatchNorm2d(channels),
    )
    shortcut = _shortcut(before, channels, stride, option) if changes else nn.Identity()
    # What comes in has passed a ReLU, and only option B can make it negative again.
    rest = nn.ReLU() if changes and option == "b" else nn.Identity()
    return Section(f"stage{stage + 1}.{place}", branch, shortcut, nn.ReLU(), rest)


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def _shortcut(before: int, after: int, stride: int, option: str) -> nn.Module:
    if option == "a":
        return ZeroPadShortcut(after, stride)
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
