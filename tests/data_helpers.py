"""Small made-up IDX files in the layout of MNIST."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from layerprune.core.data.catalog import MNIST

UNCHECKED = replace(MNIST, sha256={})
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST.files.values()


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", size) for size in values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_idx(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(values)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist_like(folder: Path, train: int = 120, test: int = 30, suffix: str = "") -> Path:
    """Four IDX files with `train` and `test` random images; the labels run 0..9 again and again."""
    random = np.random.default_rng(0)
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, train), (TEST_IMAGES, TEST_LABELS, test)):
        write_idx(folder / f"{images}{suffix}", random.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{labels}{suffix}", np.arange(count) % 10)
    return folder
