"""Batches prepared on the device: the split stays there as one uint8 tensor, gathered a batch at a time.

Training batches are x float32 [B, C, H, W], normalised per channel, and y int64 [B]; the last batch of an
epoch may be smaller. Order and augmentation depend on (seed, epoch) alone, whatever the method or device, so
training resumes at any epoch and step without stored generator state. Of several processes that share a run each gets
its part of every batch.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from layerprune.core.data.dataset import AnySplit, DataSet, Split
from layerprune.core.seeding import generator
from layerprune.core.settings import TrainingSettings
from layerprune.core.settings.training import views_problem
from layerprune.errors import LayerpruneError, SettingError
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

# How many pixels of value 0 surround an image before its crop, by augmentation.
PADDING = {"none": 0, "shift": 2, "crop-flip": 4}
MIRRORED = {"crop-flip"}
STREAMED = "resized-crop"
"""The only augmentation of images that are decoded while they are needed: views.TrainingView."""


class Batches(Protocol):
    """The batches of a training, wherever the images come from."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same in every process of a run."""

    def examples_in(self, step: int) -> int:
        """Size of an epoch's batch number `step`, over all processes."""

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of the batches of epoch `number` from `start_step` on."""


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Number of batches that these examples make; the last one may be smaller."""
    return -(-examples // batch_size)


def training_batches(
    data: DataSet,
    training: TrainingSettings,
    seed: int,
    device: torch.device | str,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Batches:
    """Batches of the training split, in memory or not. Raises SettingError for an augmentation that those images do not
    support."""
    if isinstance(data.train, Split):
        views = training.augment, device, group, training.crop, training.flip
        return TrainingBatches(data.train, data.mean, data.std, training.batch_size, seed, *views)
    if training.crop is not None or training.flip != "random":
        raise SettingError("training.crop and training.flip are for images in memory")
    return data.train.training_batches(data.mean, data.std, training.batch_size, seed, training.augment, group)


class TrainingBatches:
    """Shuffled and possibly augmented batches of `split`.

    `augment` is "none", "shift": a crop at an independent offset of -2..2 pixels along each axis, after padding with
    two pixels of value 0, or "crop-flip": the same with four pixels, and half of the images mirrored. `crop` is another
    number of pixels. `flip` "alternating" mirrors each image in every second epoch, so that two epochs show both
    (Jordan 2024, arXiv 2404.00498). `mean` and `std` are per channel, in units where 255 is 1.
    """

    def __init__(
        self,
        split: Split,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        augment: str = "none",
        device: torch.device | str = "cpu",
        group: ProcessGroup = SINGLE_PROCESS,
        crop: int | None = None,
        flip: str = "random",
    ) -> None:
        _check_batch_size(batch_size)
        _check_views(augment, crop, flip)
        split = split.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.group = group
        self._labels = split.labels
        self._normalise = _Normalise(mean, std, split.labels.device)
        self._crops = _Crops(split.images, PADDING[augment] if crop is None else crop, augment in MIRRORED)
        self._order: Tensor | None = None
        self._views: Tensor | None = None
        self._first_mirrored: Tensor | None = None
        """Which images are mirrored in even epochs [N], 0 or 1, where they alternate."""
        if flip == "alternating" and augment in MIRRORED:
            self._first_mirrored = torch.randint(2, (len(split),), generator=generator("flip", seed))

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self._labels), self.batch_size)

    def examples_in(self, step: int) -> int:
        """Size of an epoch's batch number `step`, over all processes."""
        return min(self.batch_size, len(self._labels) - step * self.batch_size)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from `start_step` on, the same as in an epoch begun at step 0."""
        count = len(self._labels)
        order, views = self._draw(number)
        for start in range(start_step * self.batch_size, count, self.batch_size):
            part = self.group.mine(min(self.batch_size, count - start), start)
            images = self._crops.gather(order[part], views[part])
            yield self._normalise(images), self._labels.index_select(0, order[part])

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Order and views of an epoch's examples, each int64 [N] on the device."""
        count, device = len(self._labels), self._labels.device
        # Drawn for the whole epoch on the CPU: every device gets the same numbers, in one copy each.
        drawn = torch.randperm(count, generator=generator("order", self.seed, number))
        views = self._crops.draw(count, generator("augmentation", self.seed, number))
        if self._first_mirrored is not None:
            views = self._crops.mirrored(views, (self._first_mirrored[drawn] + number) % 2)
        return drawn.to(device), views.to(device)

    def start_recordable_epoch(self, number: int) -> None:
        """Put the order and views of epoch `number` where `recordable` reads them."""
        if self._order is None:
            self._order, self._views = self._draw(number)
        else:
            for kept, drawn in zip((self._order, self._views), self._draw(number), strict=True):
                kept.copy_(drawn)

    def recordable(self, place: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The batch of `size` examples at step `place` (int64 scalar on the device) of the epoch that was started.

        Reads only tensors that stay where they are, so that a CUDA graph of it gives the batch of any place. One
        process alone.
        """
        where = torch.arange(size, device=place.device) + place * self.batch_size
        order, views = self._order.index_select(0, where), self._views.index_select(0, where)
        return self._normalise(self._crops.gather(order, views)), self._labels.index_select(0, order)


def evaluation_batches(
    split: AnySplit, mean: Sequence[float], std: Sequence[float], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches of `split`, on its device and in its order; the last one may be smaller."""
    _check_batch_size(batch_size)
    if not isinstance(split, Split):
        yield from split.evaluation_batches(mean, std, batch_size)
        return
    normalise = _Normalise(mean, std, split.labels.device)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        yield normalise(images), labels


class _Crops:
    """Crops of the original size out of zero-padded images uint8 [N, C, H, W], one gather for a batch."""

    def __init__(self, images: Tensor, padding: int, mirrored: bool = False) -> None:
        self._shape = images.shape[1:]
        self._side = 2 * padding + 1
        padded = torch.nn.functional.pad(images, (padding,) * 4)
        self._rows = padded.flatten(1)
        positions = torch.arange(self._rows.shape[1], device=images.device).view(padded.shape[1:])
        windows = positions.unfold(1, images.shape[2], 1).unfold(2, images.shape[3], 1)
        # Row top * side + left: where the pixels of the crop starting at (top, left) lie in a padded image.
        views = windows.permute(1, 2, 0, 3, 4)
        views = torch.cat([views, views.flip(-1)]) if mirrored else views
        self._positions = views.reshape((1 + mirrored) * self._side**2, -1)

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Random views: top * side + left, and side * side more when mirrored; int64 [count]."""
        return torch.randint(len(self._positions), (count,), generator=source)

    def mirrored(self, views: Tensor, which: Tensor) -> Tensor:
        """The views [N], mirrored where `which` [N] is 1 and not where it is 0."""
        return views % self._side**2 + which * self._side**2

    def gather(self, chosen: Tensor, views: Tensor) -> Tensor:
        """Images uint8 [B, C, H, W] at `chosen` [B], each through its view [B]."""
        rows = self._rows.index_select(0, chosen)
        if len(self._positions) > 1:
            rows = rows.gather(1, self._positions.index_select(0, views))
        return rows.view(-1, *self._shape)


class _Normalise:
    """uint8 [B, C, H, W] -> float32 (x / 255 - mean) / std, as one multiply-add."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        scale = [1 / (255 * deviation) for deviation in std]
        bias = [-centre / deviation for centre, deviation in zip(mean, std, strict=True)]
        self._scale, self._bias = (
            torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1) for values in (scale, bias)
        )

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._bias, images.float(), self._scale)


def _check_views(augment: str, crop: int | None, flip: str) -> None:
    known = ", ".join(PADDING)
    if augment == STREAMED:
        raise SettingError(
            f"training.augment: '{augment}' is for streamed images; for these, in memory, there are {known}"
        )
    if augment not in PADDING:
        raise LayerpruneError(f"augment: '{augment}' is unknown (known: {known})")
    if (problem := views_problem(augment, crop, flip)) is not None:
        raise SettingError(problem)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise LayerpruneError(f"batch_size: {batch_size} is not a positive number of images")
