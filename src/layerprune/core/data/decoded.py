"""Decoded images, cached under a name that changes with the file they came from."""

import contextlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from layerprune.errors import LayerpruneError
from layerprune.system import files, paths
from layerprune.system.files import sha256

Arrays = dict[str, np.ndarray]
_LARGEST = 2**31
"""Bytes of a tar file whose images are to fit into memory: those here have less than 200 million."""


def decoded(name: str, path: Path, decode: Callable[[], Arrays]) -> Arrays:
    """What `decode` makes of the images at `path`: from the project's data/decoded/ if it is stored there.

    In a read-only project they are decoded each time. Raises what `decode` raises.
    """
    stored = paths.decoded(f"{name}-{_fingerprint(path)}")
    arrays = _stored(stored)
    if arrays is None:
        arrays = decode()
        with contextlib.suppress(LayerpruneError):  # a read-only project: decoded again next time
            _store(stored, arrays)
    return arrays


def _fingerprint(path: Path) -> str:
    """Digest of a tar file, or of the names, sizes and times of a folder's files."""
    if not path.is_dir():
        if _stat(path).st_size > _LARGEST:
            raise LayerpruneError(f"{path}: too large: {_stat(path).st_size:,} bytes instead of at most {_LARGEST:,}")
        return files.sha256_of(path)[:16]
    listing = ((each, _stat(each)) for each in sorted(path.rglob("*")))
    lines = [f"{each.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for each, stat in listing]
    return sha256(os.fsencode("\n".join(lines)))[:16]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:  # a link that leads nowhere
        raise LayerpruneError(f"{path}: cannot read: {error.strerror}") from None


def _store(path: Path, arrays: Arrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def _stored(path: Path) -> Arrays | None:
    """The cached images; None if there are none, or if their CRC shows damage."""
    try:
        with files.regular(path) as stream, np.load(stream, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
