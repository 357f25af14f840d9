"""IDX files (the format of MNIST, http://yann.lecun.com/exdb/mnist): unsigned bytes, plain or gzipped.

A file is returned only if its magic number, its dimensions against its length, and its SHA-256 agree; every
other file raises LayerpruneError with one line naming it.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from layerprune.core.data.checksums import checked_sha256
from layerprune.errors import LayerpruneError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int, sha256: Mapping[str, str]) -> tuple[Tensor, str]:
    """The uint8 tensor in `path`, and the SHA-256 of its decompressed bytes.

    `sha256` maps names without .gz to expected digests; a file that it does not name goes unchecked.
    """
    content = _decompressed(path)
    shape = _shape(path, content, dimensions)
    digest = checked_sha256(content, sha256.get(path.name.removesuffix(".gz")), path)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(shape).copy()), digest


def _decompressed(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read: {error.strerror}") from error
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise LayerpruneError(f"{path}: truncated: the gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise LayerpruneError(f"{path}: not a sound gzip file: {error}") from error


def _shape(path: Path, content: bytes, dimensions: int) -> tuple[int, ...]:
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise LayerpruneError(f"{path}: truncated: {len(content)} bytes, but the IDX header alone has {header}")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    expected = _UNSIGNED_BYTE << 8 | dimensions
    if magic != expected:
        raise LayerpruneError(f"{path}: magic number {magic:#010x} instead of {expected:#010x}: not such an IDX file")
    promised = header + math.prod(shape)
    if len(content) != promised:
        fault = "truncated" if len(content) < promised else "too long"
        raise LayerpruneError(f"{path}: {fault}: {len(content)} bytes, but its header promises {promised}")
    return tuple(shape)
