"""CIFAR-10 and CIFAR-100 from the publisher's archive or a class-folder tree, decoded once.

Train 45,000, validation 5,000 (held out of the training images, stratified, the same on every machine) and test
10,000 images of 3x32x32. What was decoded from a tree is kept in the project's data/decoded/, under the digest of the
file it came from; where that cannot be written it is decoded anew each time.
"""

import contextlib
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from layerprune import files, paths
from layerprune.data import catalog, splits
from layerprune.data.catalog import DataSpec
from layerprune.data.checksums import sha256
from layerprune.data.dataset import DataSet, Split, channel_statistics
from layerprune.data.formats.cifar_archive import read_archive
from layerprune.data.formats.class_folders import read_class_folders
from layerprune.errors import LayerpruneError

VALIDATION_SHARE = 10
"""One training image in so many is held out."""

_KINDS = ("images", "labels")
Arrays = dict[str, np.ndarray]
"""train_images, train_labels, test_images, test_labels."""


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
    kept = paths.decoded(f"{form.sources[0]}-{_fingerprint(path)}")
    arrays = _kept(kept)
    if arrays is None:
        read = read_class_folders(path, form.classes, form.channels, form.size)
        arrays = _from_parts({part: (images, labels) for part, (images, labels, _) in read.items()})
        with contextlib.suppress(LayerpruneError):  # a read-only project: decoded again next time
            _keep(kept, arrays)
    return arrays


def _from_parts(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    return {f"{part}_{kind}": array for part, pair in parts.items() for kind, array in zip(_KINDS, pair, strict=True)}


def _check_labels(path: Path, arrays: Arrays, classes: int) -> None:
    for part in ("train", "test"):
        found = len(np.unique(arrays[f"{part}_labels"]))
        if found != classes:
            raise LayerpruneError(f"{path}: {part} holds {found} classes instead of {classes}")


def _fingerprint(path: Path) -> str:
    """Digest of a tar file, or of the names, sizes and times of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    listing = ((each, each.stat()) for each in sorted(path.rglob("*")))
    lines = [f"{each.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for each, stat in listing]
    return sha256("\n".join(lines).encode())[:16]


def _keep(path: Path, arrays: Arrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def _kept(path: Path) -> Arrays | None:
    """What was decoded before; None where there is nothing, or where its CRC says that it was damaged since."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
