"""SHA-256 of data: of bytes as they are after decompression, in lowercase hexadecimal."""

import hashlib
from pathlib import Path

from layerprune.errors import LayerpruneError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checked_sha256(data: bytes, expected: str | None, path: Path) -> str:
    """The digest of `data`; raises LayerpruneError naming `path` unless it is as expected (None: any)."""
    found = sha256(data)
    if expected is not None and found != expected:
        raise LayerpruneError(f"{path}: altered data: expected SHA-256 {expected}, found {found}")
    return found
