"""The three stages of a CIFAR ResNet (He et al., CVPR 2016, section 4.2), which its variants share.

Depth 6n + 2: n sections of two 3x3 convolutions a stage, the channels doubled and the size halved from stage to stage.
"""

from typing import NamedTuple

from torch import nn

from layerprune.errors import LayerpruneError


class Place(NamedTuple):
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


def places(arch: str, width: int) -> list[Place]:
    """The sections of `arch`, whose slug ends in the depth. Raises LayerpruneError where that is not 6n + 2."""
    return [
        Place(f"stage{stage + 1}.{number}", width * 2 ** (stage - (stage > 0 and number == 0)), width * 2**stage)
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
