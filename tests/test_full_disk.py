"""Data and results on a disk that is full: one line that names the file, nothing half-made, and room mends it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cifar_helpers import pack, write_tree
from test_bad_input import run_key, small_disk  # noqa: F401 -- a fixture
from test_hostile_store import complaint, finished, root  # noqa: F401 -- fixtures

from layerprune import cli
from layerprune.core import data
from layerprune.core.data import class_folders, loading
from layerprune.suite import store
from layerprune.system import paths

pytestmark = pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
FULL = "No space left on device"


def left_in(disk: Path) -> list[Path]:
    """Files but for locks."""
    return [path for path in disk.rglob("*") if path.is_file() and "lock" not in path.name]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_a_download_that_finds_no_room_leaves_nothing(
    small_disk: Callable[[str], Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    disk = small_disk("size=256k")

    class Downloader:
        def __init__(self, folder: str, download: bool) -> None:
            Path(folder, "archive").write_bytes(bytes(10**6))

    monkeypatch.setattr(
        loading, "import_module", lambda _: type("Downloaders", (), {loading._DOWNLOADERS[name]: Downloader})
    )
    line = complaint(lambda: data.stage(name, disk))
    assert line.startswith(f"{disk}: cannot ") and name in line and FULL in line
    assert left_in(disk) == []


@pytest.mark.parametrize("options", ["size=64k", "ro", "nr_inodes=1"])
def test_a_folder_for_data_without_any_room_is_named(small_disk: Callable[[str], Path], options: str) -> None:  # noqa: F811
    disk = small_disk(options)
    if options == "size=64k":
        with pytest.raises(OSError):
            (disk / "filling").write_bytes(bytes(10**6))
    line = complaint(lambda: data.stage("mnist", disk))
    assert line.startswith(f"{disk}: cannot ") and "mnist" in line
    assert [path.name for path in left_in(disk)] in ([], ["filling"])


@pytest.mark.parametrize("form", ["cifar10-jpeg", "imagenet-tiny40"])
def test_a_full_tmpdir_is_said_of_the_archive_and_nothing_stays_in_it(
    small_disk: Callable[[str], Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    archive = pack(write_tree(tmp_path / "tree", 20), tmp_path / f"{form}.tar.gz")
    disk = small_disk("size=64k")
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    name = {"cifar10-jpeg": "cifar10"}.get(form, "imagenet")
    assert complaint(lambda: data.load(name, tmp_path)) == f"{archive}: cannot be unpacked into TMPDIR: {FULL}"
    assert list(disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    with class_folders.unpacked(archive) as copy:
        assert copy.parent.parent == disk
    assert list(disk.iterdir()) == []


def test_results_that_find_no_room_are_unpacked_once_there_is(
    root: Path,  # noqa: F811
    small_disk: Callable[[str], Path],  # noqa: F811
) -> None:
    key = run_key("dense")
    shutil.rmtree(paths.run_folder(key))
    disk = small_disk("size=64k")
    paths.run_folder(key).parent.mkdir(parents=True, exist_ok=True)
    paths.run_folder(key).symlink_to(disk)
    assert complaint(lambda: store.unpack(key)).endswith("cannot write: no space left on the disk")
    assert not paths.record(key).exists() and not list(disk.glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    assert store.unpack(key) and store.find(key) == store.stored(key)
    assert store.weights(key) == paths.weights(key)


def test_a_manifest_that_finds_no_room_is_named(root: Path, small_disk: Callable[[str], Path]) -> None:  # noqa: F811
    disk = small_disk("nr_inodes=1")
    path = paths.data_manifest("study", "digits")
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.symlink_to(disk)
    assert complaint(lambda: cli.stage("digits", "study")) == f"{path}: cannot write: no space left on the disk"
    assert os.listdir(disk) == []
