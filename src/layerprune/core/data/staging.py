"""Bring a data set to its folder, once, and say what it is.

Files that are already there are only read, so a read-only folder will do. A download is verified in a folder
of its own and moved into place afterwards; a lock keeps two processes from downloading at once.
"""

import contextlib
import io
import os
import tempfile
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from layerprune.core.data import catalog
from layerprune.core.data.dataset import DataSet
from layerprune.core.data.registry import Reading, load
from layerprune.errors import LayerpruneError


def stage(
    name: str,
    root: Path,
    download: bool = True,
    reading: Reading = Reading(),  # noqa: B008 -- frozen
) -> dict[str, Any]:
    """Fetch `name` into `root` if absent and `download` allows; load it to verify it; return its manifest.

    Raises LayerpruneError when the data are absent and cannot be had, or are damaged.
    """
    spec = catalog.find(name)
    if download and name in catalog.DOWNLOADABLE and catalog.present_form(name, root, reading.source) is None:
        _fetch_once(spec, root)
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


def _fetch_once(spec: catalog.DataSpec, root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{spec.name}.lock"):
            if catalog.present_form(spec.name, root) is None:
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
