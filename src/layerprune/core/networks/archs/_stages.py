"""The stages of ResNets, which variants of one family share: where each section stands, and its convolutions.

CIFAR (He et al., CVPR 2016, section 4.2): three stages, depth 6n + 2 with n sections of two 3x3 convolutions a stage.
ImageNet (the same, Table 1): four stages; from depth 50 on a section is a bottleneck, four times as wide outside as
inside, and a section's stride is that of its first 3x3 convolution ("v1.5"). In both the channels double and the size
is halved from stage to stage.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from layerprune.errors import LayerpruneError

# --- CIFAR ----------------------------------------------------------------------------------------------------------


class CifarPlace(NamedTuple):
    """One section's place: its name, and the channels before and behind it."""

    name: str
    before: int
    channels: int

    @property
    def changes_shape(self) -> bool:
        """Whether the section halves the size."""
        return self.before != self.channels

    @property
    def stride(self) -> int:
        """Of the section's first convolution."""
        return 2 if self.changes_shape else 1


def cifar_places(arch: str, width: int) -> list[CifarPlace]:
    """The sections of `arch`, whose slug ends in the depth. Raises LayerpruneError where that is not 6n + 2."""
    return [
        CifarPlace(f"stage{stage + 1}.{number}", width * 2 ** (stage - (stage > 0 and number == 0)), width * 2**stage)
        for stage in range(3)
        for number in range(_sections_a_stage(arch))
    ]


def _sections_a_stage(arch: str) -> int:
    number = arch.rpartition("-")[2]
    if not number.isdigit() or int(number) < 8 or int(number) % 6 != 2:
        family = arch.removesuffix(f"-{number}") if number.isdigit() else arch
        raise LayerpruneError(f"{arch}: name a depth of 6n + 2, as in {family}-20, {family}-56, {family}-110")
    return int(number) // 6


def conv3x3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, but for its stride."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


# --- ImageNet -------------------------------------------------------------------------------------------------------

SECTIONS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Depth -> sections of each stage."""
BOTTLENECK_FROM = 50
EXPANSION = 4
"""Channels outside a bottleneck as a multiple of those inside."""


class ImageNetPlace(NamedTuple):
    """One section's place: its name, the channels before it, inside it and behind it, and its stride."""

    name: str
    before: int
    inside: int
    behind: int
    stride: int

    @property
    def layers(self) -> list[tuple[int, int, int, int]]:
        """The branch's convolutions: channels before and after, size, stride."""
        if self.behind == self.inside:
            return [(self.before, self.inside, 3, self.stride), (self.inside, self.behind, 3, 1)]
        return [
            (self.before, self.inside, 1, 1),
            (self.inside, self.inside, 3, self.stride),
            (self.inside, self.behind, 1, 1),
        ]


def imagenet_places(arch: str, width: int) -> Iterator[ImageNetPlace]:
    """The sections of `arch`, whose slug ends in the depth. Raises LayerpruneError for one that was not published."""
    depth = _depth(arch)
    before = width
    for stage, count in enumerate(SECTIONS[depth]):
        inside = width * 2**stage
        behind = inside * (EXPANSION if depth >= BOTTLENECK_FROM else 1)
        for number in range(count):
            halves = stage > 0 and number == 0
            yield ImageNetPlace(f"stage{stage + 1}.{number}", before, inside, behind, 2 if halves else 1)
            before = behind


def _depth(arch: str) -> int:
    family, _, number = arch.rpartition("-")
    if number not in map(str, SECTIONS):
        raise LayerpruneError(f"{arch}: the published depths are {', '.join(map(str, SECTIONS))}, as {family}-50")
    return int(number)


def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for its stride."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
