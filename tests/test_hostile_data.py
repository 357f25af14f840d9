"""Data that would fill the memory, last for ever or crash the reader: one line that names the file, soon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile_data
import pytest
from hostile_data import ALL, png

from layerprune.core.data import views
from layerprune.core.data.class_folders import unpacked
from layerprune.errors import LayerpruneError

EXPECTED = {
    "idx_bomb": "train-images-idx3-ubyte.gz: too large: its header promises 9,999,999,968 bytes",
    "idx_bomb_behind": "train-images-idx3-ubyte.gz: too long",
    "idx_sparse": "train-images-idx3-ubyte: too large: ",
    "idx_sparse_behind": "train-images-idx3-ubyte: too long: 10000000000 bytes",
    "idx_endless": "train-images-idx3-ubyte: cannot read: not a regular file",
    "idx_pipe": "train-images-idx3-ubyte: cannot read: not a regular file",
    "idx_folder": "train-images-idx3-ubyte: cannot read: Is a directory",
    "idx_dangling": "mnist needs train-images-idx3-ubyte",
    "archive_bomb": " has 10,000,000,000 bytes: refused",
    "archive_bomb_beside": " has 10,000,000,000 bytes: refused",
    "archive_of_names": ".tar.gz: holds a member of 10,000,000,000 bytes: refused",
    "archive_of_notes": ".tar.gz: holds a member of 10,000,000,000 bytes: refused",
    "archive_backwards": ".tar.gz: ",
    "archive_sparse": ".tar.gz: 'data_batch_1' has 10,000,000,000 bytes: refused",
    "archive_twice": ".tar.gz: holds test_batch twice",
    "archive_pipe": ".tar.gz: cannot read: not a regular file",
    "image_huge_header": "train/class4/0002.jpg: not a sound image: Image size (10000000000 pixels) exceeds limit",
    "image_huge": "train/class4/0002.jpg: not a sound image: 13000x13000 pixels instead of 32x32",
    "image_sparse": "train/class4/0002.jpg: not a sound image: too large: 10,000,000,000 bytes",
    "image_pipe": "train/class4/0002.jpg: not a sound image: not a regular file",
    "image_endless": "train/class4/0002.jpg: not a sound image: not a regular file",
    "image_dangling": "train/class4/0002.jpg: cannot read: No such file or directory",
    "image_name": "the name 'train/class4/\\udcff\\udcfe.jpg' is not UTF-8",
    "tree_loop": "/train/one: a link to a folder that contains it",
    "tree_pipe": ".tar: cannot read: not a regular file",
    "tar_sparse": ".tar: too large: 10,000,000,512 bytes instead of at most 2,147,483,648",
    "tar_huge_image": ".tar/train/class4/0007.jpg: not a sound image: too large: 100,000,000 bytes",
    "tar_of_names": ".tar: holds a member of 300,000,256 bytes: refused",
    "tar_twice": ".tar: holds train/class4/0002.jpg twice",
    "tar_name": ".tar: the name 'train/class4/\\udcff.jpg' is not UTF-8",
    "tar_bomb": ".tar.gz: unpacked it has more than ",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Case -> what came of it, all from one process with little address space."""
    root = tmp_path_factory.mktemp("hostile")
    words = [sys.executable, hostile_data.__file__, str(root), json.dumps(ALL)]
    environment = os.environ | {"LAYERPRUNE_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {found[-1:]}: {done.returncode} {done.stderr[-2000:]}"
    return {each["case"]: each for each in found}


@pytest.mark.parametrize("form, name", ALL)
def test_one_line_names_the_file_with_little_memory_and_soon(told: dict[str, dict], form: str, name: str) -> None:
    found = told[f"{form} {name}"]
    expected = EXPECTED[name]
    assert "\n" not in found["said"] and found["stderr"] == ""
    if form == "cifar10-jpeg":
        expected = expected.replace("not a sound image: too", "cannot read: too").replace(
            "image: not a", "image: not a"
        )
        expected = expected.replace(
            "0002.jpg: not a sound image: not a regular", "0002.jpg: cannot read: not a regular"
        )
        expected = expected.replace("not a sound image: 13000", "13000")
    elif form == "imagenet-tiny40" and name == "image_dangling":
        expected = "0002.jpg: cannot read: No such file"
    assert expected in found["said"] and found["said"].startswith("/")
    assert found["grown"] < 6 * 10**8 and found["seconds"] < 30


def test_every_case_is_expected() -> None:
    assert {name for _, name in ALL} == EXPECTED.keys()


@pytest.mark.parametrize("decoder", views.DECODERS)
def test_a_header_that_promises_too_many_pixels_is_an_unreadable_image(decoder: str) -> None:
    found = views.DECODERS[decoder](png(100_000, 100_000))
    assert isinstance(found, views.Unreadable) and "exceeds limit" in found.reason
    assert not isinstance(views.DECODERS[decoder](png(40, 30)), views.Unreadable)


def test_no_room_to_unpack_is_said_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "images.tar.gz"
    hostile_data.gzip_bomb(archive, b"")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with (
        pytest.raises(LayerpruneError, match=r"images\.tar\.gz: cannot be unpacked into TMPDIR: No such"),
        unpacked(archive),
    ):
        pass
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    with (
        pytest.raises(LayerpruneError, match=r"images\.tar\.gz: cannot be unpacked into TMPDIR: Not a dir"),
        unpacked(archive),
    ):
        pass
