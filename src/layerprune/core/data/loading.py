"""Data sets by name: read from the data folder, and downloaded into it first on request.

`load` only reads. `stage` downloads what is absent: a download is verified in a folder of its own and moved into place
afterwards; a lock keeps two processes from downloading at once. Data that are present are only read, so a read-only
folder will do.
"""

import contextlib
import inspect
import io
import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from filelock import FileLock

from layerprune.core.data import catalog, checking
from layerprune.core.data.dataset import DataSet, ImagesError
from layerprune.errors import LayerpruneError
from layerprune.system.extensions import checked_return, entry_point, imported


class Reading(NamedTuple):
    """How a data set is read: which of its forms, and, for images decoded on the fly, by how many processes and how
    strictly. A loader uses what applies to its data.
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
    """The data set `name` from the data folder `root`, on `device`. Reads only: see `stage` for downloads.

    Raises LayerpruneError for an unknown name, for files that are missing, damaged or altered, and for a data set that
    is not what its row of the catalog says.
    """
    loader = loader_of(catalog.find(name).name)
    parameters = inspect.signature(loader).parameters
    try:
        loaded = loader(root, **{key: value for key, value in reading._asdict().items() if key in parameters})
    except ImagesError as error:
        raise LayerpruneError(f"data set {name}: {error}") from None
    return checking.check(name, checked_return(loaded, DataSet, loader)).to(device)


def loader_of(name: str) -> Callable[..., DataSet]:
    """The function `load` of the data set's module, which is imported when it is first needed.

    Raises LayerpruneError naming the file if there is none, or if it does not define it.
    """
    module = f"layerprune.core.data.{name.replace('-', '_')}"
    if find_spec(module) is None:
        raise LayerpruneError(f"data set {name}: there is no module {module} with a function load(root)")
    return entry_point(imported(module), "load", ("root",), Reading._fields)


# --- staging --------------------------------------------------------------------------------------------------------


def stage(
    name: str,
    root: Path,
    download: bool = True,
    reading: Reading = Reading(),  # noqa: B008 -- frozen
) -> dict[str, Any]:
    """Fetch `name` into `root` if absent and `download` allows; load it to verify it; return its manifest.

    Raises LayerpruneError if the data are absent and cannot be downloaded, or are damaged.
    """
    spec = catalog.find(name)
    available, why = catalog.is_available(name, root, download, reading.source)
    if not available:
        raise LayerpruneError(why)
    if download and catalog.can_be_downloaded(name, reading.source):
        _fetch_unless_present(spec, root, reading.source)
    return manifest(load(name, root, reading=reading))


def manifest(data: DataSet) -> dict[str, Any]:
    """What was loaded, as plain JSON values: shape is [channels, height, width], sizes count images."""
    return {
        "name": data.name,
        "source": data.source,
        "classes": data.classes,
        "shape": list(data.shape),
        "sizes": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "checksums": data.checksums,
    }


def _fetch_unless_present(spec: catalog.DataSpec, root: Path, source: str | None) -> None:
    """Once, however many processes want it."""
    if catalog.present_form(spec.name, root, source) is not None:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{spec.name}.lock"):
            if catalog.present_form(spec.name, root, source) is None:
                _fetch(spec, root)
    except OSError as error:
        raise LayerpruneError(f"{root}: cannot stage {spec.name} here: {error.strerror or error}") from error


def _fetch(spec: catalog.DataSpec, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}.", dir=root) as scratch:
        _download(spec, Path(scratch), root)
        load(spec.name, Path(scratch))
        destination = root / spec.name
        destination.mkdir(exist_ok=True)
        for path in catalog.require(spec, Path(scratch)).values():
            os.replace(path, destination / path.name)


# Data set -> its class in torchvision.datasets.
_DOWNLOADERS = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def _download(spec: catalog.DataSpec, scratch: Path, root: Path) -> None:
    # Imported here because it takes a second, and only a download needs it.
    downloader = getattr(import_module("torchvision.datasets"), _DOWNLOADERS[spec.name])
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            downloader(str(scratch), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        raise LayerpruneError(
            f"{root}: cannot download {spec.name} ({reason}): check the network, or put its files there"
        ) from error
