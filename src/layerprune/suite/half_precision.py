"""Weights of a headline network in half precision: half the bytes in git, for its accuracy alone. Imports no torch.

Matrices and kernels are rounded to float16, all but those that the caller keeps; vectors (biases, batch normalisation)
and counters stay as they are. The file names the SHA-256 of the weights that it was rounded from, which is the one in
the run's record, and carries a checksum of itself. No run starts from it: the runs that started from the trained
weights would not have its numbers.
"""

import json
from collections.abc import Collection

import numpy as np
import safetensors
import safetensors.numpy

from layerprune.errors import LayerpruneError
from layerprune.system import files
from layerprune.system.files import sha256

_KEY = "layerprune"
"""Of the file's metadata: one, as safetensors writes several in any order."""
_BLANK = "0" * 64
"""In place of the checksum while it is computed."""
_LARGEST_HEADER = 2**24


def matrices(weights: bytes, source: object) -> list[str]:
    """Names of what can be rounded, the largest first. Raises LayerpruneError naming the source."""
    sizes = {name: value.size for name, value in _loaded(weights, source).items() if _can_be_rounded(value)}
    return sorted(sizes, key=lambda name: (-sizes[name], name))


def rounded(weights: bytes, source: object, kept: Collection[str] = ()) -> bytes:
    """A file of weights in half precision, but for those kept; equal weights give equal bytes.

    Raises LayerpruneError naming the source.
    """
    full = _loaded(weights, source)
    told = {"checksum": _BLANK, "precision": "float16", "rounded_from": sha256(weights)}
    metadata = {_KEY: json.dumps(told, sort_keys=True)}
    half = {name: value if name in kept else _rounded(value) for name, value in full.items()}
    content = safetensors.numpy.save(half, metadata)
    return content.replace(_BLANK.encode(), sha256(content).encode(), 1)


def _loaded(weights: bytes, source: object) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise LayerpruneError(f"{source}: not a file of weights: {error}") from None


def _can_be_rounded(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim >= 2


def _rounded(value: np.ndarray) -> np.ndarray:
    if not _can_be_rounded(value):
        return value
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and the accuracy tells
        return value.astype(np.float16)


def origin(content: bytes, source: object) -> str:
    """SHA-256 of the weights that a file was rounded from. Raises LayerpruneError naming the source of altered ones."""
    try:
        end = 8 + min(int.from_bytes(content[:8], "little"), _LARGEST_HEADER)
        header = files.parse_json(content[8:end].decode(), source)
        told = files.parse_json(header["__metadata__"][_KEY], source)
        checksum, rounded_from = told["checksum"], told["rounded_from"]
        whole = sha256(content.replace(checksum.encode(), _BLANK.encode(), 1)) == checksum
    except (LayerpruneError, AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise LayerpruneError(f"{source}: damaged or altered, or not weights in half precision")
    return rounded_from
