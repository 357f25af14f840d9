"""Which examples are held out: stratified index sets, shipped in `indices/`, one integer a line, sorted.

Every set holds of each class its exact share rounded down or up. Stored sets belong to a stated total; for
any other total (made-up data) the same function computes one. Digits indices count within all 1,797 images;
the MNIST set counts within the 60,000 training images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layerprune.system.files import sha256

_FOLDER = Path(__file__).parent / "indices"
_SEED = 20240531
_OTHER_TOTAL_DIVISOR = 12


@dataclass(frozen=True)
class HeldOut:
    """A stored index set: `count` of the `total` examples of a set of data, in `file_name`."""

    file_name: str
    count: int
    total: int


DIGITS_TEST = HeldOut("digits_test.txt", count=360, total=1797)
DIGITS_VALIDATION = HeldOut("digits_validation.txt", count=200, total=1797)
MNIST_VALIDATION = HeldOut("mnist_validation.txt", count=5000, total=60000)


def indices(held_out: HeldOut, labels: np.ndarray) -> np.ndarray:
    """The stored indices if `labels` [N] has as many entries as their total, else a computed twelfth of N; int64,
    sorted."""
    if len(labels) == held_out.total:
        return np.loadtxt(_FOLDER / held_out.file_name, dtype=np.int64)
    return choose(labels, round(len(labels) / _OTHER_TOTAL_DIVISOR))


def choose(labels: np.ndarray, count: int, taken: np.ndarray | None = None) -> np.ndarray:
    """`count` indices into `labels`, none of them `taken`, stratified by class; int64, sorted.

    Of each class the examples with the smallest random keys are chosen. Keys are raw PCG64 output, which
    numpy never changes, whereas it may change how its distributions and shuffles use it.
    """
    keys = np.random.PCG64(_SEED).random_raw(len(labels))
    free = np.setdiff1d(np.arange(len(labels)), [] if taken is None else taken)
    classes, sizes = np.unique(labels[free], return_counts=True)
    chosen = []
    for label, share in zip(classes, _shares(sizes, count), strict=True):
        members = free[labels[free] == label]
        chosen.append(members[np.argsort(keys[members], kind="stable")[:share]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def digest(chosen: np.ndarray) -> str:
    """SHA-256 of an index set as it is stored."""
    return sha256(as_text(chosen).encode())


def as_text(chosen: np.ndarray) -> str:
    return "".join(f"{index}\n" for index in chosen)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Split `count` in proportion to `sizes` by largest remainder: each share is rounded down or up."""
    products = sizes * count
    shares = products // sizes.sum()
    remainders = products % sizes.sum()
    shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
    return shares
