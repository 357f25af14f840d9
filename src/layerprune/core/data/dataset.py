"""A data set: three splits of images and labels, in memory or decoded while they are needed.

Train, validation and test share no example. Models are selected on validation; test is for the final number.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from layerprune.errors import LayerpruneError


class AnySplit(Protocol):
    """What every split can do. One that is not in memory makes its batches itself (see data.streaming)."""

    labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image as networks see it."""

    @property
    def device(self) -> torch.device:
        """Where its batches are."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""

    def take(self, indices: Tensor) -> Self:
        """The examples at `indices` (int64, on the device of `labels`)."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N, C, H, W] and labels int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where images and labels lie."""
        return self.labels.device

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> "Split":
        """The examples at `indices` (int64, on this split's device)."""
        return Split(self.images[indices], self.labels[indices])

    def without(self, indices: Tensor) -> "Split":
        """The examples not at `indices`, in order."""
        stays = torch.ones(len(self), dtype=torch.bool, device=self.labels.device)
        stays[indices] = False
        return Split(self.images[stays], self.labels[stays])


@dataclass(frozen=True, eq=False)
class DataSet:
    """Three splits and what they are.

    `source` says what the images really are. `mean` and `std` are per channel, of the training split, in
    units where 255 is 1. `checksums` maps data files and index sets to their SHA-256, `left_out` damaged images
    that the user allowed to be left out to what is wrong with them.
    """

    name: str
    source: str
    classes: int
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksums: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape

    def to(self, device: torch.device | str) -> "DataSet":
        splits = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **splits)


class ImagesError(LayerpruneError):
    """Images of another form than uint8 [N, C, H, W]; whoever loads the data set adds its name."""


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each channel of uint8 [N, C, H, W], in units where 255 is 1.

    They come from exact counts of the 256 values, so they depend on no order of summation. Raises ImagesError for
    other images.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
        found = f"{images.dtype} {list(images.shape)}" if hasattr(images, "shape") else type(images).__name__
        raise ImagesError(f"images are {found.removeprefix('torch.')} instead of uint8 [N, C, H, W], values 0 to 255")
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).double()
        mean = (counts @ values / counts.sum()).item()
        variance = (counts @ (values - mean).square() / counts.sum()).item()
        means.append(mean)
        deviations.append(variance**0.5)
    return tuple(means), tuple(deviations)
