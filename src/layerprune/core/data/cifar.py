"""CIFAR-10 and CIFAR-100 from the publisher's archive or a class-folder tree of PNGs or JPEGs, decoded once.

Train 45,000, validation 5,000 (held out of the training images, stratified, the same on every machine) and test
10,000 images of 3x32x32.

The publisher's archive is the "python version" (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html), which
holds pickles: one is opened only with the digest that its publisher states, and unpickling may build nothing but numpy
arrays. Images of a tree must be colour and of one size; any other image stops reading with one line that names it.
Decoded images are cached.
"""

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from layerprune.core.data import catalog, splits, tars
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.class_folders import Images, read_index, unpacked
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.core.data.decoded import Arrays, decoded
from layerprune.core.data.views import DAMAGE
from layerprune.errors import LayerpruneError
from layerprune.system.files import open_regular, sha256

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


def _from_parts(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    return {f"{part}_{kind}": array for part, pair in parts.items() for kind, array in zip(_KINDS, pair, strict=True)}


def _check_labels(path: Path, arrays: Arrays, classes: int) -> None:
    for part in PARTS:
        labels = np.unique(arrays[f"{part}_labels"])
        if len(labels) != classes:
            raise LayerpruneError(f"{path}: {part} holds {len(labels)} classes instead of {classes}")
        if labels[0] != 0 or labels[-1] != classes - 1:
            raise LayerpruneError(f"{path}: {part} holds labels from {labels[0]} to {labels[-1]}, not 0..{classes - 1}")


# --- a class-folder tree --------------------------------------------------------------------------------------------


def _decoded(path: Path, form: DataSpec) -> Arrays:
    with unpacked(path) as tree:
        index = read_index(tree, PARTS, form.classes)
        return _from_parts({part: (_pictures(path, images, form), images.labels) for part, images in index.items()})


def _pictures(path: Path, images: Images, form: DataSpec) -> np.ndarray:
    """All images as uint8 [N, 3, size, size]."""
    return np.stack(
        [_picture(path / name, _content(path / name, images, place), form) for place, name in _named(images)]
    )


def _named(images: Images) -> Iterator[tuple[int, str]]:
    return enumerate(name.decode() for name in images.names)


def _content(where: Path, images: Images, place: int) -> bytes:
    try:
        return images.content(place)
    except OSError as error:
        raise LayerpruneError(f"{where}: cannot read: {error.strerror or error}") from None


def _picture(where: Path, content: bytes, form: DataSpec) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_format(where, image.format, form.image_format)
            _check_size(where, image.size, form.size)  # before it is decoded
            image.load()
    except DAMAGE as error:
        raise LayerpruneError(f"{where}: not a sound image: {' '.join(str(error).split())}") from None
    if image.mode != "RGB":
        found = "grey" if image.mode == "L" else image.mode
        raise LayerpruneError(f"{where}: {found} image instead of a colour one")
    return np.asarray(image).transpose(2, 0, 1)


def _check_format(where: Path, found: str | None, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise LayerpruneError(f"{where}: {found} image instead of {wanted}")


def _check_size(where: Path, found: tuple[int, int], size: int) -> None:
    if found != (size, size):
        width, height = found
        raise LayerpruneError(f"{where}: {height}x{width} pixels instead of {size}x{size}")


# --- the publisher's archive ----------------------------------------------------------------------------------------

_BATCHES = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "train"),
    "test": ("test_batch", "test"),
}
_LABEL_KEYS = (b"labels", b"fine_labels")
_UNPICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def read_archive(path: Path, md5: Mapping[str, str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Part (train, test) -> images uint8 [N, 3, 32, 32] and labels int64 [N]. Raises LayerpruneError naming the file.

    `md5` maps file names to digests; a file that it does not name goes unchecked.
    """
    _check_md5(path, md5.get(path.name))
    batches = _batches(path)
    parts = {part: [batches[name] for name in names if name in batches] for part, names in _BATCHES.items()}
    for part, found in parts.items():
        if not found:
            raise LayerpruneError(f"{path}: holds no {part} batches of CIFAR")
    return {
        part: (np.concatenate([images for images, _ in found]), np.concatenate([labels for _, labels in found]))
        for part, found in parts.items()
    }


def _check_md5(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    with open_regular(path) as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        raise LayerpruneError(f"{path}: altered data: expected MD5 {expected}, found {found}")


def _batches(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    wanted = {name for names in _BATCHES.values() for name in names}
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for member, content in _members(path):
        name = PurePosixPath(member).name
        if name in found:
            raise LayerpruneError(f"{path}: holds {name} twice")
        if name in wanted:
            found[name] = _unpack(path, name, content)
    return found


_LARGEST = 2**30
"""Bytes of an archive when it is unpacked: CIFAR-10 and CIFAR-100 have 186 million."""


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a tar file, plain or compressed, read in place. Raises LayerpruneError naming
    the file when it is damaged, and before more is unpacked than makes sense.
    """
    for archive, member in tars.members(path, most=_LARGEST):
        if member.isfile():
            yield member.name, tars.content_of(path, archive, member)


def _unpack(path: Path, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(next(batch[key] for key in _LABEL_KEYS if key in batch), np.int64)
    except Exception as error:  # unpickling what is damaged raises many kinds
        raise LayerpruneError(f"{path}: {name} is not a batch of CIFAR: {' '.join(str(error).split())[:160]}") from None
    if len(images) != len(labels):
        raise LayerpruneError(f"{path}: {name} holds {len(labels)} labels for {len(images)} images")
    return images, labels


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _UNPICKLED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
