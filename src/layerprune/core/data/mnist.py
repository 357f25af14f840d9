"""MNIST from its four IDX files, plain or gzipped, in the data root, its mnist/ or its MNIST/raw/.

Train 55,000, validation 5,000 (held out of the training files) and test 10,000 images of 1x28x28. The spec is
an argument so that small IDX files of the same layout can be loaded: give it no checksums.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from layerprune.core.data import splits
from layerprune.core.data.catalog import MNIST, DataSpec, require
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.errors import LayerpruneError
from layerprune.system.files import checked_sha256, open_regular

VERSION = 1
_UNSIGNED_BYTE = 0x08


def load(root: Path, spec: DataSpec = MNIST) -> DataSet:
    """Read, check and split. Raises LayerpruneError naming the folder or file that is missing or at fault."""
    paths = require(spec, root)
    training, training_checksums = _read_pair(paths["train_images"], paths["train_labels"], spec)
    test, test_checksums = _read_pair(paths["test_images"], paths["test_labels"], spec)
    held_out = splits.indices(splits.MNIST_VALIDATION, training.labels.numpy())
    validation = torch.from_numpy(held_out)
    train = training.without(validation)
    mean, std = channel_statistics(train.images)
    return DataSet(
        name=spec.name,
        source=spec.sources[0],
        classes=spec.classes,
        train=train,
        validation=training.take(validation),
        test=test,
        mean=mean,
        std=std,
        checksums=training_checksums | test_checksums | {splits.MNIST_VALIDATION.file_name: splits.digest(held_out)},
    )


def _read_pair(images_path: Path, labels_path: Path, spec: DataSpec) -> tuple[Split, dict[str, str]]:
    images, images_digest = read_idx(images_path, 3, spec.sha256)
    labels, labels_digest = read_idx(labels_path, 1, spec.sha256)
    _check_images(images_path, images, spec.size)
    _check_labels(labels_path, labels, spec.classes)
    if len(images) != len(labels):
        raise LayerpruneError(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}")
    digests = {images_path: images_digest, labels_path: labels_digest}
    checksums = {path.name.removesuffix(".gz"): digest for path, digest in digests.items()}
    return Split(images.unsqueeze(1), labels.long()), checksums


def _check_images(path: Path, images: Tensor, size: int) -> None:
    count, height, width = images.shape
    if count == 0:
        raise LayerpruneError(f"{path}: holds no images")
    if (height, width) != (size, size):
        raise LayerpruneError(f"{path}: images of {height}x{width} pixels instead of {size}x{size}")


def _check_labels(path: Path, labels: Tensor, classes: int) -> None:
    bad = (labels >= classes).nonzero()
    if len(bad):
        position = int(bad[0])
        raise LayerpruneError(
            f"{path}: label {int(labels[position])} at position {position} is not in 0..{classes - 1}"
        )


# --- IDX files --------------------------------------------------------------------------------------------------


_LARGEST = 2**29
"""Bytes, above which nothing is read: MNIST's largest file has 47 million."""


def read_idx(path: Path, dimensions: int, sha256: Mapping[str, str]) -> tuple[Tensor, str]:
    """The uint8 tensor in an IDX file (http://yann.lecun.com/exdb/mnist), plain or gzipped, and the SHA-256 of its
    decompressed bytes. Raises LayerpruneError unless magic number, dimensions against length, and SHA-256 agree.

    `sha256` maps names without .gz to expected digests; a file that it does not name goes unchecked. No more is
    decompressed than the header promises, and nothing where it promises more than half a gigabyte.
    """
    header = 4 + 4 * dimensions
    with open_regular(path) as stream, _unpacking(path, stream) as unpacked:
        start = unpacked.read(header)
        shape = _shape(path, start, dimensions)
        promised = header + math.prod(shape)
        content = start + unpacked.read(promised - header)
        length = len(content) + _length_of_rest(stream, unpacked)
    _check_length(path, length, promised)
    digest = checked_sha256(content, sha256.get(path.name.removesuffix(".gz")), path)
    values = np.frombuffer(content, np.uint8, offset=header)
    return torch.from_numpy(values.reshape(shape).copy()), digest


@contextmanager
def _unpacking(path: Path, stream: BinaryIO) -> Iterator[BinaryIO]:
    """What is in a file, decompressed where it is gzipped."""
    if path.suffix != ".gz":
        yield stream
        return
    try:
        with gzip.open(stream) as unpacked:
            yield unpacked
    except EOFError:
        raise LayerpruneError(f"{path}: truncated: the gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise LayerpruneError(f"{path}: not a sound gzip file: {error}") from error


def _length_of_rest(stream: BinaryIO, unpacked: BinaryIO) -> int:
    """Bytes that follow; of a gzip stream, which would have to be unpacked, 1 for any."""
    if unpacked is not stream:
        return len(unpacked.read(1))
    return os.fstat(stream.fileno()).st_size - stream.tell()


def _shape(path: Path, start: bytes, dimensions: int) -> tuple[int, ...]:
    header = 4 + 4 * dimensions
    if len(start) < header:
        raise LayerpruneError(f"{path}: truncated: {len(start)} bytes, but the IDX header alone has {header}")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", start)
    expected = _UNSIGNED_BYTE << 8 | dimensions
    if magic != expected:
        raise LayerpruneError(f"{path}: magic number {magic:#010x} instead of {expected:#010x}: not such an IDX file")
    if math.prod(shape) > _LARGEST:
        raise LayerpruneError(f"{path}: too large: its header promises {math.prod(shape):,} bytes")
    return tuple(shape)


def _check_length(path: Path, length: int, promised: int) -> None:
    if length != promised:
        fault = "truncated" if length < promised else "too long"
        raise LayerpruneError(f"{path}: {fault}: {length} bytes, but its header promises {promised}")
