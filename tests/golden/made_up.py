"""Made-up data for golden values: small, learnable, and the same to the last byte on every machine."""

import io
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from layerprune.core.data import catalog

CIFAR_SIDE, IMAGENET_SIDE = 32, 32
IMAGENET_CLASSES = 3
AKAMASTER = "akamaster.th"
"""Weights of a resnet-8 of width 4 under akamaster's names, in the data folder."""


def pixels(label: int, number: int, height: int, width: int) -> np.ndarray:
    """Noise on a slope whose direction and colour tell the class: uint8 [height, width, 3]."""
    random = np.random.default_rng([label, number])
    rows, columns = np.mgrid[:height, :width]
    slope = (label % 4) * rows + (label % 3) * columns + 12 * label
    picture = random.integers(0, 80, (height, width, 3)) + (slope % 96)[:, :, None]
    picture[:, :, label % 3] += 40
    return picture.astype(np.uint8)


def write_tree(folder: Path, parts: dict[str, int], classes: int, side: int, ragged: bool = False) -> None:
    """<part>/<class>/<image>.png, so many images of each class; of several smaller sizes where they are `ragged`.

    Smaller: scaling down is rounded otherwise by Pillow 13 than by 12, and a grey level more in one image of twenty
    moved losses by some percent.
    """
    for offset, (part, count) in enumerate(parts.items()):
        for label in range(classes):
            place = folder / part / f"class{label:03d}"
            place.mkdir(parents=True)
            for number in range(count):
                size = (side - 14 + 9 * (number % 2), side - 11 + 5 * (number % 3)) if ragged else (side, side)
                image = Image.fromarray(pixels(label, number + 1000 * offset, *size))
                image.save(place / f"{number:03d}.png", compress_level=1)


def write_data(root: Path) -> Path:
    """A data folder with all that the golden runs read; digits need no file."""
    write_tree(root / "cifar10-jpeg", {"train": 60, "test": 12}, 10, CIFAR_SIDE)
    write_tree(root / "cifar100-jpeg", {"train": 3, "test": 1}, 100, CIFAR_SIDE)
    write_tree(root / "imagenet", {"train": 20, "val": 6}, IMAGENET_CLASSES, IMAGENET_SIDE, ragged=True)
    write_tree(root / "imagenet-tiny40", {"train": 20, "val": 6}, IMAGENET_CLASSES, IMAGENET_SIDE)
    torch.save({"state_dict": akamaster_weights()}, root / AKAMASTER)
    return root


@contextmanager
def small_imagenet() -> Iterator[None]:
    """For a while ImageNet has three classes of 20 and 6 images, of 32x32 pixels."""
    known = catalog._FORMS["imagenet"]
    sizes = {"classes": IMAGENET_CLASSES, "size": IMAGENET_SIDE, "train": 48, "held_out_divisor": 5}
    catalog._FORMS["imagenet"] = tuple(replace(form, **sizes) for form in known)
    try:
        yield
    finally:
        catalog._FORMS["imagenet"] = known


def akamaster_weights() -> dict[str, Tensor]:
    """The state dict of a resnet-8 of width 4 for ten classes, spelt out: nothing here comes from the package."""
    shapes = {"conv1.weight": (4, 3, 3, 3), **_norm("bn1", 4)}
    for stage, (before, after) in enumerate([(4, 4), (4, 8), (8, 16)], start=1):
        name = f"layer{stage}.0"
        shapes |= {f"{name}.conv1.weight": (after, before, 3, 3), **_norm(f"{name}.bn1", after)}
        shapes |= {f"{name}.conv2.weight": (after, after, 3, 3), **_norm(f"{name}.bn2", after)}
    shapes |= {"linear.weight": (10, 16), "linear.bias": (10,)}
    return {f"module.{name}": values(name, shape) for name, shape in shapes.items()}


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers that depend on a weight's name; positive and near 1 where they are scales or variances."""
    source = torch.Generator().manual_seed(sum(name.encode()))
    drawn = torch.rand(shape, generator=source) - 0.5
    return 1 + drawn if len(shape) == 1 and name.endswith(("weight", "var")) else drawn


def write_archive(path: Path, parts: Sequence[str], labels: bytes, classes: int) -> None:
    """CIFAR in its publisher's form: a pickle a part."""
    random = np.random.default_rng(1)
    with tarfile.open(path, "w:gz") as tar:
        for name in parts:
            drawn = random.integers(0, 256, (2 * classes, 3072)).astype(np.uint8)
            content = pickle.dumps({b"data": drawn, labels: [n % classes for n in range(2 * classes)]}, protocol=2)
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
