"""CIFAR-10 and CIFAR-100 from the publisher's archive or a class-folder tree, decoded once.

Train 45,000, validation 5,000 (held out of the training images, stratified, the same on every machine) and test
10,000 images of 3x32x32. What was decoded from a tree is kept for the next time.
"""

from pathlib import Path

import numpy as np
import torch

from layerprune.core.data import catalog, splits
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.checksums import sha256
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.data.formats.cifar_archive import read_archive
from layerprune.core.data.formats.class_folders import read_class_folders
from layerprune.core.data.formats.kept import Arrays, kept_or_read
from layerprune.errors import LayerpruneError

VALIDATION_SHARE = 10
"""One training image in so many is held out."""

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
    return kept_or_read(form.sources[0], path, lambda: _decoded(path, form))


def _decoded(path: Path, form: DataSpec) -> Arrays:
    read = read_class_folders(path, form.classes, form.channels, form.size)
    return _from_parts({part: (images, labels) for part, (images, labels, _) in read.items()})


def _from_parts(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    return {f"{part}_{kind}": array for part, pair in parts.items() for kind, array in zip(_KINDS, pair, strict=True)}


def _check_labels(path: Path, arrays: Arrays, classes: int) -> None:
    for part in ("train", "test"):
        found = len(np.unique(arrays[f"{part}_labels"]))
        if found != classes:
            raise LayerpruneError(f"{path}: {part} holds {found} classes instead of {classes}")
