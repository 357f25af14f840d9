"""Loaders by data set name. A loader takes the data root and returns a DataSet on the CPU."""

from collections.abc import Callable
from pathlib import Path

import torch

from layerprune.data import catalog, cifar10, cifar100, digits, mnist
from layerprune.data.dataset import DataSet

LOADERS: dict[str, Callable[[Path], DataSet]] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "cifar100": cifar100.load,
}


def load(name: str, root: Path, device: torch.device | str = "cpu") -> DataSet:
    """The data set `name` from the data folder `root`, on `device`. Reads only: see `staging` for downloads.

    Raises LayerpruneError for an unknown name, and for files that are missing, damaged or altered.
    """
    return LOADERS[catalog.find(name).name](root).to(device)
