"""Untrusted tar files, read within bounds: no more memory than a member takes, no more unpacked than makes sense, no
pipes, no devices, no sparse files.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from layerprune.errors import LayerpruneError
from layerprune.system.files import open_regular

LARGEST_MEMBER = 2**28
"""Bytes of what is read at once: the largest member here, CIFAR-100's training images, has 155 million."""


def members(path: Path, most: int | None = None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member of a tar file with the archive, which is plain or, where at most `most` bytes of it may be unpacked,
    gzipped. Raises LayerpruneError naming the file.
    """
    with _naming(path), open_regular(path) as stream, _unpacked(stream, most) as unpacked:
        archive = tarfile.open(fileobj=_Bounded(path, unpacked, most), mode="r:")  # noqa: SIM115 -- the stream closes
        for member in archive:
            _check(path, member)
            yield archive, member


def content_of(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's bytes. Raises LayerpruneError naming the archive, also for one too large to be read at once."""
    if member.size > LARGEST_MEMBER:
        raise LayerpruneError(f"{path}: {member.name!a} has {member.size:,} bytes: refused")
    with _naming(path):
        return archive.extractfile(member).read()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what damaged archives raise into one line."""
    try:
        yield
    except EOFError:
        raise LayerpruneError(f"{path}: truncated: the archive ends early") from None
    except (tarfile.TarError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:
        first_line = str(error).partition("\n")[0].rstrip(":")[:160]
        raise LayerpruneError(f"{path}: not a sound tar archive: {first_line}") from None


def _check(path: Path, member: tarfile.TarInfo) -> None:
    if member.size < 0 or member.issparse():  # would lead backwards, or is mostly not there
        raise LayerpruneError(f"{path}: {member.name!a} is not a plain member of a tar: refused")


@contextmanager
def _unpacked(stream: BinaryIO, most: int | None) -> Iterator[BinaryIO]:
    is_packed = most is not None and stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if is_packed:
        with gzip.open(stream) as unpacked:
            yield unpacked
    else:
        yield stream


class _Bounded:
    """A stream that refuses what is too large before it is read."""

    def __init__(self, path: Path, stream: BinaryIO, most: int | None) -> None:
        self._path, self._stream, self._most = path, stream, most

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_MEMBER:
            raise LayerpruneError(f"{self._path}: holds a member of {size:,} bytes: refused")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        self._check(place)
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if self._most is not None and place > self._most:
            raise LayerpruneError(f"{self._path}: unpacked it has more than {self._most:,} bytes: refused")
