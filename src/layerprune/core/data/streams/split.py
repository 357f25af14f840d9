"""A split whose images stay in their files and are decoded whenever they are needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from layerprune.core.data.streams.batches import EvaluationStream, TrainingStream
from layerprune.core.data.streams.index import Images
from layerprune.errors import SettingError
from layerprune.system.process_group import ALONE, Ranks

AUGMENT = "resized-crop"
"""The only augmentation there is: streams.decode.TrainingView."""


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """Where images lie, and the size of the square pictures [3, size, size] that networks see of them.

    `workers` processes decode, by `decoder` (see streams.decode); `left_out` is shared by the splits of a data set:
    damaged image -> what is wrong.
    """

    images: Images
    size: int
    workers: int = 0
    bad_images: Literal["stop", "skip"] = "stop"
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
        ranks: Ranks = ALONE,
    ) -> TrainingStream:
        """Shuffled batches of random views; see data.batches.Batches. Raises SettingError for another augmentation."""
        if augment != AUGMENT:
            raise SettingError(
                f"training.augment: '{augment}' is for images in memory; here there is '{AUGMENT}' alone"
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
            ranks=ranks,
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
