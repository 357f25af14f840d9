"""Images decoded while training goes on: our stream against torchvision's ImageFolder in a DataLoader.

Both read the same made-up JPEGs, as large as photographs usually are, from the same folder, take random views alike, of
224 pixels and deliver normalised float32 images, with as many workers. Ours casts and normalises behind the workers.
"""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.loader import drain
from bench.timing import Measurement, compare
from layerprune.core.data.class_folders import read_index
from layerprune.core.data.imagenet import MEAN, STD
from layerprune.core.data.streaming import TrainingStream
from layerprune.core.data.views import DECODERS

SIZE, BATCH, CLASSES = 224, 32, 2
PHOTOGRAPH = (500, 375)
"""Width and height; the median of ImageNet's."""


def write_images(folder: Path, count: int) -> None:
    """A class-folder tree of JPEGs: smooth noise, which compresses about as photographs do."""
    source = torch.Generator().manual_seed(0)
    width, height = PHOTOGRAPH
    for part, number in (("train", count), ("val", CLASSES)):
        for place in range(number):
            coarse = torch.randint(0, 256, (1, 3, height // 12, width // 12), generator=source).float()
            pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 255)
            home = folder / part / f"n{place % CLASSES}"
            home.mkdir(parents=True, exist_ok=True)
            packed = io.BytesIO()
            Image.fromarray(pixels.byte().permute(1, 2, 0).numpy()).save(packed, "jpeg", quality=90)
            (home / f"{place}.JPEG").write_bytes(packed.getvalue())


def torchvision_loader(folder: Path, workers: int) -> DataLoader:
    """What torchvision's reference recipe does, in its plainest form."""
    steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = ImageFolder(folder / "train", transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]))
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def against_torchvision(folder: Path, workers: int, decoder: str, rounds: int) -> Measurement:
    """How many times as many images a second ours gives: their time over ours."""
    ours = TrainingStream(read_index(folder)["train"], SIZE, MEAN, STD, BATCH, workers, seed=0, decoder=decoder)
    theirs = torchvision_loader(folder, workers)
    name = f"our stream, decoder {decoder}, / ImageFolder with {workers} workers, {SIZE} pixels, images/s"
    return compare(name, lambda: drain(ours.epoch(0)), lambda: drain(theirs), rounds, ">= 1")


def measure(rounds: int, images: int) -> Iterator[Measurement]:
    """In this process and with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), images)
        for workers in (0, 2):
            for decoder in DECODERS:
                yield against_torchvision(Path(folder), workers, decoder, rounds)
