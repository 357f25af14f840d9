"""The four stages of an ImageNet ResNet (He et al., CVPR 2016, Table 1), which its variants share.

The channels double and the size is halved from stage to stage; from depth 50 on a section is a bottleneck, four times
as wide outside as inside. A section's stride is that of its first 3x3 convolution ("v1.5").
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from layerprune.errors import LayerpruneError

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


def places(arch: str, width: int) -> Iterator[Place]:
    """The sections of `arch`, whose slug ends in the depth. Raises LayerpruneError for one that was not published."""
    depth = _depth(arch)
    before = width
    for stage, count in enumerate(SECTIONS[depth]):
        inside = width * 2**stage
        behind = inside * (EXPANSION if depth >= BOTTLENECK_FROM else 1)
        for number in range(count):
            halves = stage > 0 and number == 0
            yield Place(f"stage{stage + 1}.{number}", before, inside, behind, 2 if halves else 1)
            before = behind


def _depth(arch: str) -> int:
    family, _, number = arch.rpartition("-")
    if number not in map(str, SECTIONS):
        raise LayerpruneError(f"{arch}: published are the depths {', '.join(map(str, SECTIONS))}, as {family}-50")
    return int(number)


def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for its stride."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
