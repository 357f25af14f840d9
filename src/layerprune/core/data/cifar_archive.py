"""The "python version" of CIFAR-10 and CIFAR-100 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

These archives hold pickles. One is opened only with the digest that its publisher states, and unpickling may build
nothing but numpy arrays.
"""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from layerprune.errors import LayerpruneError

_PARTS = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "train"),
    "test": ("test_batch", "test"),
}
_LABELS = (b"labels", b"fine_labels")
_ALLOWED = {
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
    parts = {part: [batches[name] for name in names if name in batches] for part, names in _PARTS.items()}
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
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read: {error.strerror}") from None
    if found != expected:
        raise LayerpruneError(f"{path}: altered data: expected MD5 {expected}, found {found}")


def _batches(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    wanted = {name for names in _PARTS.values() for name in names}
    found = ((PurePosixPath(name).name, content) for name, content in _members(path))
    return {name: _unpack(path, name, content) for name, content in found if name in wanted}


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a tar file, plain or compressed, read in place. Raises LayerpruneError naming
    the file when it is damaged.
    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member).read()
    except EOFError:
        raise LayerpruneError(f"{path}: truncated: the archive ends early") from None
    except (tarfile.TarError, zlib.error, OSError) as error:
        first_line = str(error).partition("\n")[0].rstrip(":")
        raise LayerpruneError(f"{path}: not a sound tar archive: {first_line}") from None


def _unpack(path: Path, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(next(batch[key] for key in _LABELS if key in batch), np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise LayerpruneError(f"{path}: {name} is no batch of CIFAR: {error}") from None
    if len(images) != len(labels):
        raise LayerpruneError(f"{path}: {name} holds {len(labels)} labels for {len(images)} images")
    return images, labels


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
