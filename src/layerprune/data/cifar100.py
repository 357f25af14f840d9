"""CIFAR-100: the publisher's archive (source `cifar100`), or a class-folder tree of JPEGs (source `cifar100-jpeg`)."""

from pathlib import Path

from layerprune.data import catalog
from layerprune.data.dataset import DataSet
from layerprune.data.formats import cifar


def load(root: Path) -> DataSet:
    """See formats.cifar; the archive goes before the tree where both are there."""
    return cifar.load(root, catalog.present_form("cifar100", root) or catalog.CIFAR100)
