"""A split whose images stay in their files: worker processes decode its batches while the network trains.

Order and views depend on (seed, epoch) alone, not on the number of workers, and an epoch can be begun at any step: so
training resumes as with data in memory (data/batches.py). Workers live as long as the batches and are used by one epoch
at a time. Of several processes that share a run each decodes its own part of every batch, and no other image.

A damaged image stops the run with its name, or is left out and counted, as `bad_images` says. In training the next
sound image of the batch then takes its place, so that batches keep their size.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from layerprune.core.data.batches import STREAMED, steps_per_epoch
from layerprune.core.data.class_folders import Images
from layerprune.core.data.views import EvaluationView, TrainingView, Unreadable
from layerprune.core.seeding import generator, stream_seed
from layerprune.errors import LayerpruneError, SettingError
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

BadImages = Literal["stop", "skip"]
View = Callable[[bytes, int], Tensor | Unreadable]
Item = tuple[Tensor | Unreadable, int, int]
"""Picture, label, and the image's place in the index."""
Collated = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""Pictures uint8 [B, 3, H, W] and labels int64 [B] of the sound images; places of the others, and what is wrong."""


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """Where images lie, and the size of the square pictures [3, size, size] that networks see of them.

    `workers` processes decode, by `decoder` (see views); `left_out` is shared by the splits of a data set:
    damaged image -> what is wrong.
    """

    images: Images
    size: int
    workers: int = 0
    bad_images: BadImages = "stop"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    left_out: dict[str, str] = field(default_factory=dict)
    decoder: str = "pil"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return 3, self.size, self.size

    @property
    def labels(self) -> Tensor:
        """Labels int64 [N], on the CPU."""
        return torch.from_numpy(self.images.labels)

    def to(self, device: torch.device | str) -> "StreamedSplit":
        """The same with batches on another device."""
        return replace(self, device=torch.device(device))

    def take(self, indices: Tensor) -> "StreamedSplit":
        """The examples at `indices` (int64, on the CPU)."""
        return replace(self, images=self.images.take(indices.numpy()))

    def training_batches(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        augment: str,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> "TrainingStream":
        """Shuffled batches of random views; see batches.Batches. Raises SettingError for another augmentation."""
        if augment != STREAMED:
            raise SettingError(
                f"training.augment: '{augment}' is for images in memory; for these there is only '{STREAMED}'"
            )
        stream = TrainingStream(
            self.images,
            self.size,
            mean,
            std,
            batch_size,
            self.workers,
            self.device,
            self.bad_images,
            seed=seed,
            group=group,
            decoder=self.decoder,
        )
        stream.left_out = self.left_out
        return stream

    def evaluation_batches(
        self, mean: Sequence[float], std: Sequence[float], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of centre views, in order."""
        stream = EvaluationStream(
            self.images,
            self.size,
            mean,
            std,
            batch_size,
            self.workers,
            self.device,
            self.bad_images,
            decoder=self.decoder,
        )
        stream.left_out = self.left_out
        return iter(stream)


class Stream:
    """What training and evaluation share: images through a view, in batches, on the device."""

    keeps_size = False
    """Whether other images take the place of damaged ones."""

    def __init__(
        self,
        images: Images,
        view: View,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        workers: int = 0,
        device: torch.device | str = "cpu",
        bad_images: BadImages = "stop",
    ) -> None:
        if batch_size < 1:
            raise LayerpruneError(f"batch_size: {batch_size} is not a positive number of images")
        self.images = images
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.left_out: dict[str, str] = {}
        self._mean, self._std = list(mean), list(std)
        self._bad_images = bad_images
        self._plan = _Plan()
        self._loader = DataLoader(
            _Decoded(images, view),
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=partial(_collate, keeps_size=self.keeps_size),
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )

    def _run(self, plan: list[list[tuple[int, int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (float32 [B, 3, H, W], int64 [B]) of a plan of (place, key)."""
        self._plan.batches = plan
        for pictures, labels, damaged in self._collated():
            for place, reason in damaged:
                self._leave_out(self.images.where(place), reason)
            if len(labels):
                yield self._normalised(self._to_device(pictures)), self._to_device(labels)
            elif self.keeps_size:
                raise LayerpruneError(f"{self.images.root}: no sound image in a batch of {len(damaged)}")

    def _collated(self) -> Iterator[Collated]:
        batches = iter(self._loader)
        _let_deaths_wait()
        try:
            yield from batches
        except (RuntimeError, ConnectionError, EOFError) as error:
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise LayerpruneError(
                f"{self.images.root}: a process that decodes images died (killed, or out of memory or shared memory)"
            ) from None

    def _leave_out(self, name: str, reason: str) -> None:
        if self._bad_images == "stop":
            raise LayerpruneError(f"{name}: not a sound image: {reason} (data.bad_images: skip leaves it out)")
        if name not in self.left_out:
            logging.getLogger("layerprune").warning("left out: %s: %s", name, reason)
        self.left_out[name] = reason

    def _to_device(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def _normalised(self, pictures: Tensor) -> Tensor:
        scaled = functional.to_dtype(pictures, torch.float32, scale=True)
        return functional.normalize(scaled, self._mean, self._std, inplace=True)


class TrainingStream(Stream):
    """Shuffled batches of random views; the last of an epoch may be smaller."""

    keeps_size = True

    def __init__(
        self,
        images: Images,
        size: int,
        *rest: object,
        seed: int,
        group: ProcessGroup = SINGLE_PROCESS,
        decoder: str = "pil",
        **options: object,
    ) -> None:
        super().__init__(images, TrainingView(size, decoder), *rest, **options)
        self.seed = seed
        self.group = group

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.images), self.batch_size)

    def examples_in(self, step: int) -> int:
        """Size of an epoch's batch number `step`, over all processes."""
        return min(self.batch_size, len(self.images) - step * self.batch_size)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from `start_step` on, the same as in an epoch begun at step 0."""
        order = torch.randperm(len(self.images), generator=generator("order", self.seed, number)).tolist()
        keyed = [(place, stream_seed("view", self.seed, number, place)) for place in order]
        batches = _batches(keyed, self.batch_size)[start_step:]
        return self._run([batch[self.group.mine(len(batch))] for batch in batches])


class EvaluationStream(Stream):
    """Batches of centre views in the order of the index."""

    def __init__(self, images: Images, size: int, *rest: object, decoder: str = "pil", **options: object) -> None:
        super().__init__(images, EvaluationView(size, decoder), *rest, **options)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._run(_batches([(place, 0) for place in range(len(self.images))], self.batch_size))


def _batches(keyed: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    return [keyed[start : start + size] for start in range(0, len(keyed), size)]


def _collate(items: list[Item], keeps_size: bool) -> Collated:
    """In the worker: one tensor a batch crosses over to the training, and can be pinned."""
    sound = [(picture, label) for picture, label, _ in items if isinstance(picture, Tensor)]
    damaged = [(place, picture.reason) for picture, _, place in items if isinstance(picture, Unreadable)]
    if keeps_size and sound and damaged:
        sound = [_sound_from(items, start) for start in range(len(items))]
    pictures = torch.stack([picture for picture, _ in sound]) if sound else torch.empty(0, dtype=torch.uint8)
    return pictures, torch.tensor([label for _, label in sound], dtype=torch.int64), damaged


def _sound_from(items: list[Item], start: int) -> tuple[Tensor, int]:
    """The first sound item from `start` on, around the batch's end if need be."""
    turned = items[start:] + items[:start]
    return next((picture, label) for picture, label, _ in turned if isinstance(picture, Tensor))


def _let_deaths_wait() -> None:
    """A worker's death is noticed where its batch is awaited, seconds later at most.

    torch's handler of the signal would raise wherever the training happens to be, in the middle of a step too.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class _Plan:
    """A batch sampler that is given the batches of each epoch in turn: workers outlive epochs."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Decoded(Dataset):
    """(place, key) -> Item. A damaged image is an answer, not an error: errors of workers arrive as long texts."""

    def __init__(self, images: Images, view: View) -> None:
        self._images = images
        self._view = view

    def __getitem__(self, asked: tuple[int, int]) -> Item:
        place, key = asked
        try:
            picture = self._view(self._images.content(place), key)
        except OSError as error:
            picture = Unreadable(error.strerror or str(error))
        return picture, int(self._images.labels[place]), place
