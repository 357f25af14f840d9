"""Loaders by data set name. A loader takes the data root and returns a DataSet on the CPU."""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from layerprune.core.data import catalog
from layerprune.core.data.dataset import DataSet


class Reading(NamedTuple):
    """How a data set is read: which of its forms, and where images are decoded by how many processes and how strictly.

    A loader takes of it what concerns its data.
    """

    source: str | None = None
    workers: int = 0
    bad_images: Literal["stop", "skip"] = "stop"
    decoder: str = "pil"


def load(
    name: str,
    root: Path,
    device: torch.device | str = "cpu",
    reading: Reading = Reading(),  # noqa: B008 -- frozen
) -> DataSet:
    """The data set `name` from the data folder `root`, on `device`. Reads only: see `staging` for downloads.

    Raises LayerpruneError for an unknown name, and for files that are missing, damaged or altered.
    """
    loader = loader_of(catalog.find(name).name)
    parameters = inspect.signature(loader).parameters
    return loader(root, **{key: value for key, value in reading._asdict().items() if key in parameters}).to(device)


def loader_of(name: str) -> Callable[..., DataSet]:
    """The function `load` of the data set's module, which is imported when it is first needed."""
    return import_module(f"layerprune.core.data.{name.replace('-', '_')}").load
