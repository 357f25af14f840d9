"""CIFAR-10 and CIFAR-100 from the publisher's archive or a class-folder tree, decoded once.

Train 45,000, validation 5,000 (held out of the training images, stratified, the same on every machine) and test
10,000 images of 3x32x32. Images of a tree must be colour and of one size; every other image stops the reading with one
line that names it. What was decoded is stored for the next time.
"""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from layerprune.core.data import catalog, splits
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.checksums import sha256
from layerprune.core.data.cifar_archive import read_archive
from layerprune.core.data.class_folders import Images, read_index, unpacked
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.data.decoded import Arrays, decoded
from layerprune.errors import LayerpruneError

VALIDATION_SHARE = 10
"""One training image in so many is held out."""

PARTS = ("train", "test")
_KINDS = ("images", "labels")


def load(root: Path, form: DataSpec) -> DataSet:
    """Read, check and split. Raises LayerpruneError naming the folder or file that is missing or at fault."""
    arrays = _read(catalog.require(form, root), form)
    training = Split(torch.from_numpy(arrays["train_images"]), torch.from_numpy(arrays["train_labels"]))
    held_out = splits.choose(arrays["train_labels"], len(training) // VALIDATION_SHARE)
    validation = torch.from_numpy(held_out)
    train = training.without(validation)
    mean, std = channel_statistics(train.images)
    digests = {f"{form.sources[0]}/{name}": sha256(array.tobytes()) for name, array in arrays.items()}
    return DataSet(
        name=form.name,
        source=form.sources[0],
        classes=form.classes,
        train=train,
        validation=training.take(validation),
        test=Split(torch.from_numpy(arrays["test_images"]), torch.from_numpy(arrays["test_labels"])),
        mean=mean,
        std=std,
        checksums=digests | {f"{form.sources[0]}/validation": splits.digest(held_out)},
    )


def _read(located: dict[str, Path], form: DataSpec) -> Arrays:
    if "archive" in located:
        arrays = _from_parts(read_archive(located["archive"], form.md5))
        _check_labels(located["archive"], arrays, form.classes)
        return arrays
    path = located["images"]
    return decoded(form.sources[0], path, lambda: _decoded(path, form))


def _decoded(path: Path, form: DataSpec) -> Arrays:
    with unpacked(path) as tree:
        index = read_index(tree, PARTS, form.classes)
        return _from_parts(
            {part: (_pictures(path, images, form.size), images.labels) for part, images in index.items()}
        )


def _pictures(path: Path, images: Images, size: int) -> np.ndarray:
    """All images as uint8 [N, 3, size, size]."""
    names = (name.decode() for name in images.names)
    return np.stack([_picture(path / name, images.content(place), size) for place, name in enumerate(names)])


def _picture(where: Path, content: bytes, size: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises these for damaged files
        raise LayerpruneError(f"{where}: not a sound image: {' '.join(str(error).split())}") from None
    if image.mode != "RGB":
        found = "grey" if image.mode == "L" else image.mode
        raise LayerpruneError(f"{where}: {found} image instead of a colour one")
    if image.size != (size, size):
        width, height = image.size
        raise LayerpruneError(f"{where}: {height}x{width} pixels instead of {size}x{size}")
    return np.asarray(image).transpose(2, 0, 1)


def _from_parts(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    return {f"{part}_{kind}": array for part, pair in parts.items() for kind, array in zip(_KINDS, pair, strict=True)}


def _check_labels(path: Path, arrays: Arrays, classes: int) -> None:
    for part in PARTS:
        found = len(np.unique(arrays[f"{part}_labels"]))
        if found != classes:
            raise LayerpruneError(f"{path}: {part} holds {found} classes instead of {classes}")
