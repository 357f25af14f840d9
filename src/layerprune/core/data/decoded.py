"""Decoded images, stored for the next time under a name that changes with the file they came from."""

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from layerprune.core.data.checksums import sha256
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths

Arrays = dict[str, np.ndarray]


def decoded(name: str, path: Path, decode: Callable[[], Arrays]) -> Arrays:
    """What `decode` makes of the images at `path`: from the project's data/decoded/ if it is stored there.

    In a project that cannot be written they are decoded each time. Raises what `decode` raises.
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
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    listing = ((each, each.stat()) for each in sorted(path.rglob("*")))
    lines = [f"{each.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for each, stat in listing]
    return sha256("\n".join(lines).encode())[:16]


def _store(path: Path, arrays: Arrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def _stored(path: Path) -> Arrays | None:
    """What was decoded before; None where there is nothing, or where its CRC says that it was damaged since."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
