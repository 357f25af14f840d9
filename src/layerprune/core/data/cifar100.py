"""CIFAR-100 in one of three forms: the publisher's archive (source `cifar100`), a class-folder tree of PNGs
(`cifar100-png`) or one of JPEGs (`cifar100-jpeg`).
"""

from pathlib import Path

from layerprune.core.data import catalog, cifar
from layerprune.core.data.dataset import DataSet

VERSION = 1


def load(root: Path, source: str | None = None) -> DataSet:
    """See data.cifar; if several forms exist and no source is named, the first of these is read."""
    return cifar.load(root, catalog.chosen_form("cifar100", root, source))
