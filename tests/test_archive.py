"""A study that was taken out of the store can still be looked into: it is one packed file, whole and sound."""

import tarfile
from pathlib import Path

import pytest
from conftest import REPOSITORY

from layerprune.suite import store

ARCHIVE = REPOSITORY / "results" / "archive" / "cifar10-six-epochs.tar.xz"
LARGEST = 600_000
"""Bytes."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "cifar10-six-epochs"


def test_it_is_small_and_has_settings_and_tables_but_no_weights(unpacked: Path) -> None:
    assert ARCHIVE.stat().st_size < LARGEST
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert held >= {"config/laptop.yaml", "config/claims/rules.yaml", "results/laptop/cifar10/runs.csv"}
    assert not [name for name in held if name.endswith(".safetensors")]


def test_every_record_has_its_curves_and_its_network_as_they_were_written(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(unpacked))
    keys = store.keys("laptop", "cifar10")
    assert len(keys) == 290
    for key in keys:
        made = store.find(key)
        assert (store.curves(key) is None) == (made.files.curves is None)
        assert (store.arch(key) is None) == (made.files.arch is None)
