"""CIFAR-100: the publisher's archive (source `cifar100`), or a class-folder tree of JPEGs (source `cifar100-jpeg`)."""

from pathlib import Path

from layerprune.core.data import catalog, cifar
from layerprune.core.data.dataset import DataSet

VERSION = 1


def load(root: Path, source: str | None = None) -> DataSet:
    """See data.cifar; the archive is preferred to the tree if both exist and no source is named."""
    return cifar.load(root, catalog.chosen_form("cifar100", root, source))
