"""CIFAR from the publisher's archive or a class-folder tree: the same split, decoded once, faults named in one line."""

import os
import pickle
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cifar_helpers import add, pack, write_archive, write_tree
from PIL import Image

from layerprune.core.data import catalog, cifar, class_folders, load, stage
from layerprune.core.data.cifar import read_archive
from layerprune.core.data.loading import Reading
from layerprune.errors import LayerpruneError
from layerprune.system import paths

UNCHECKED = replace(catalog.CIFAR10, md5={})


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "project"))


@pytest.fixture(scope="module")
def made_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("made") / "cifar10-jpeg")


@pytest.fixture
def tree(made_tree: Path, tmp_path: Path) -> Path:
    """A tree of one's own, to be damaged."""
    return Path(shutil.copytree(made_tree, tmp_path / "root" / "cifar10-jpeg"))


def complaint(action, *arguments) -> str:
    with pytest.raises(LayerpruneError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- class-folder trees ---------------------------------------------------------------------------------------


def test_a_tree_is_split_and_says_what_it_is(tree: Path) -> None:
    data = load("cifar10", tree.parent)
    assert (data.name, data.source, data.shape, data.classes) == ("cifar10", "cifar10-jpeg", (3, 32, 32), 10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [180, 20, 20]
    assert torch.bincount(data.validation.labels).tolist() == [2] * 10
    assert data.train.images.dtype == torch.uint8


def test_classes_are_numbered_in_alphabetical_order(tree: Path) -> None:
    test = load("cifar10", tree.parent).test
    brightness = torch.stack([test.images[test.labels == label].float().mean() for label in range(10)])
    torch.testing.assert_close(brightness, 4.5 + 20 * torch.arange(10.0), atol=2, rtol=0)


def test_pixels_are_those_of_the_files(tree: Path) -> None:
    images = load("cifar10", tree.parent).test.images
    with Image.open(tree / "test" / "class0" / "0001.jpg") as image:
        assert np.array_equal(images[1].permute(1, 2, 0).numpy(), np.asarray(image))


def test_a_tree_of_pngs_is_lossless_goes_first_and_takes_no_other_images(tree: Path) -> None:
    lossless = tree.with_name("cifar10-png")
    for path in tree.rglob("*.jpg"):
        copy = lossless / path.relative_to(tree).with_suffix(".png")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(copy)
    lossy, data = load("cifar10", tree.parent, reading=Reading("cifar10-jpeg")), load("cifar10", tree.parent)
    assert data.source == "cifar10-png"
    assert torch.equal(data.train.images, lossy.train.images)
    assert torch.equal(data.validation.labels, lossy.validation.labels)
    assert not set(data.checksums) & set(lossy.checksums)
    shutil.copy(tree / "train" / "class3" / "0004.jpg", lossless / "train" / "class3" / "0004.png")
    shutil.rmtree(paths.root(), ignore_errors=True)  # decoded images
    assert complaint(load, "cifar10", tree.parent).endswith("class3/0004.png: JPEG image instead of PNG")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_file_is_read_in_place_whatever_its_order(tree: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "packed").mkdir()
    pack(tree, tmp_path / "packed" / f"cifar10-jpeg{suffix}")
    from_folder, from_tar = load("cifar10", tree.parent), load("cifar10", tmp_path / "packed")
    assert from_folder.checksums == from_tar.checksums
    assert torch.equal(from_folder.train.images, from_tar.train.images)


def test_images_are_decoded_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("cifar10", tree.parent)
    monkeypatch.setattr(cifar, "read_index", None)
    again = load("cifar10", tree.parent)
    assert again.checksums == first.checksums and torch.equal(again.test.images, first.test.images)


def test_what_was_decoded_is_not_used_for_other_files(tree: Path) -> None:
    first = load("cifar10", tree.parent)
    Image.new("RGB", (32, 32), "red").save(tree / "test" / "class3" / "0000.jpg")
    assert load("cifar10", tree.parent).checksums != first.checksums


def test_damaged_decoded_images_are_decoded_again(tree: Path) -> None:
    first = load("cifar10", tree.parent)
    (kept,) = paths.decoded("any").parent.iterdir()
    kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    assert load("cifar10", tree.parent).checksums == first.checksums


@pytest.mark.parametrize("kind", ["pipe", "packed"])
def test_nothing_is_waited_for_or_unpacked_in_their_place(tree: Path, kind: str) -> None:
    first = load("cifar10", tree.parent)
    (kept,) = paths.decoded("any").parent.iterdir()
    kept.unlink()
    if kind == "pipe":
        os.mkfifo(kept)
    else:
        np.savez_compressed(kept, **{name: np.zeros(10**5, np.uint8) for name in ("images", "labels")})
        damaged = bytearray(kept.read_bytes())
        damaged[60:120] = b"\xff" * 60
        kept.write_bytes(damaged)
    assert load("cifar10", tree.parent).checksums == first.checksums


def test_a_project_that_cannot_keep_them_decodes_them_each_time(tree: Path) -> None:
    paths.root().mkdir()
    paths.data_root().write_text("a file where a folder should be")
    assert len(load("cifar10", tree.parent).test) == 20


def test_other_files_between_the_images_are_passed_over(tree: Path) -> None:
    first = load("cifar10", tree.parent)
    for place in ("train/.DS_Store", "train/class1/notes.txt", "README"):
        (tree / place).write_text("not an image")
    assert load("cifar10", tree.parent).checksums == first.checksums


def damage_empty(tree: Path) -> str:
    for file in (tree / "train" / "class4").iterdir():
        file.unlink()
    return "class folder train/class4 holds no images"


def damage_truncated(tree: Path) -> str:
    file = tree / "train" / "class4" / "0007.jpg"
    file.write_bytes(file.read_bytes()[:300])
    return f"{file}: not a sound image"


def damage_grey(tree: Path) -> str:
    Image.new("L", (32, 32)).save(tree / "test" / "class9" / "0001.jpg")
    return f"{tree / 'test' / 'class9' / '0001.jpg'}: grey image instead of a colour one"


def damage_size(tree: Path) -> str:
    Image.new("RGB", (31, 33)).save(tree / "test" / "class9" / "0001.jpg")
    return "0001.jpg: 33x31 pixels instead of 32x32"


def damage_classes(tree: Path) -> str:
    for part in ("train", "test"):
        shutil.rmtree(tree / part / "class0")
    return f"{tree}: train/ holds 9 classes instead of 10"


def damage_other_classes(tree: Path) -> str:
    (tree / "test" / "class0").rename(tree / "test" / "class00")
    return f"{tree}: test/ has no folder for class 'class0'"


def damage_part(tree: Path) -> str:
    shutil.rmtree(tree / "test")
    return f"{tree}: has no folder test/"


DAMAGES = [damage_empty, damage_truncated, damage_grey, damage_size, damage_classes, damage_other_classes, damage_part]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_fault_of_a_tree_is_one_line_with_the_name(tree: Path, damage) -> None:
    expected = damage(tree)
    assert expected in complaint(load, "cifar10", tree.parent)


def test_an_image_in_a_tar_file_is_named_too(tree: Path, tmp_path: Path) -> None:
    damage_truncated(tree)
    archive = pack(tree, tmp_path / "cifar10-jpeg.tar")
    assert f"{archive}/train/class4/0007.jpg: not a sound image" in complaint(load, "cifar10", tmp_path)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_truncated_tar_file_is_named(tree: Path, tmp_path: Path, suffix: str) -> None:
    archive = pack(tree, tmp_path / f"cifar10-jpeg{suffix}")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 3])
    assert str(archive) in complaint(load, "cifar10", tmp_path)


def test_a_tar_file_cannot_write_outside_its_folder(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as tar:
        add(tar, "train/../../outside.jpg", b"x")
    before = sorted(tmp_path.rglob("*"))
    complaint(class_folders.read_index, archive, cifar.PARTS)
    assert sorted(tmp_path.rglob("*")) == before


# --- the publisher's archives ---------------------------------------------------------------------------------


def test_an_archive_is_read_in_its_order(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-10-python.tar.gz")
    data = cifar.load(tmp_path, UNCHECKED)
    assert data.source == "cifar10"
    assert [len(part) for part in (data.train, data.validation, data.test)] == [180, 20, 40]
    assert data.test.labels.tolist() == [*range(10)] * 4


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", b"fine_labels", 100)
    data = cifar.load(tmp_path, replace(catalog.CIFAR100, md5={}))
    assert data.classes == 100 and data.test.labels.max() == 99


def test_another_archive_than_the_publishers_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "cifar10" / "cifar-10-python.tar.gz")
    message = complaint(load, "cifar10", tmp_path)
    assert message.startswith(f"{path}: altered data: expected MD5 c58f30108f718f92721af3b95e74349a")


def test_an_archive_with_too_few_classes_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", b"fine_labels", 20)
    assert "20 classes instead of 100" in complaint(cifar.load, tmp_path, replace(catalog.CIFAR100, md5={}))


def test_unpickling_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "cifar-10-batches-py/test_batch", pickle.dumps(Path("made by a class that is not numpy's")))
    assert "test_batch is not a batch of CIFAR: it asks for pathlib" in complaint(read_archive, path, {})


@pytest.mark.parametrize("content", [b"", b"not a tar file", b"\x1f\x8b\x08\x00broken"], ids=["empty", "text", "cut"])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(content)
    assert str(path) in complaint(read_archive, path, {})


# --- finding them ---------------------------------------------------------------------------------------------


def test_the_archive_goes_before_the_tree(tree: Path) -> None:
    assert catalog.present_form("cifar10", tree.parent) is catalog.CIFAR10_JPEG
    write_archive(tree.parent / "cifar-10-python.tar.gz")
    assert catalog.present_form("cifar10", tree.parent) is catalog.CIFAR10


def test_absent_data_names_every_form(tmp_path: Path) -> None:
    available, why = catalog.is_available("cifar10", tmp_path, download=False)
    assert not available and "\n" not in why
    assert "cifar-10-python.tar.gz or cifar10-png (plain or .tar.gz or .tar) or cifar10-jpeg (plain" in why


def test_staging_what_is_there_downloads_nothing(tree: Path) -> None:
    manifest = stage("cifar10", tree.parent)
    assert manifest["source"] == "cifar10-jpeg" and manifest["sizes"] == {"train": 180, "validation": 20, "test": 20}


@pytest.mark.parametrize("source", ["cifar10-jpeg", "cifar10-png"])
def test_a_form_that_no_download_brings_is_not_waited_for(tmp_path: Path, source: str) -> None:
    available, why = catalog.is_available("cifar10", tmp_path, True, source)
    assert not available and why.endswith(": put it there, or set data.root or LAYERPRUNE_DATA")
    assert f"cifar10 needs {source}" in complaint(stage, "cifar10", tmp_path, True, Reading(source))
    assert list(tmp_path.iterdir()) == []


def test_the_archive_is_downloaded_beside_another_form(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def downloaded(folder: str, download: bool) -> None:
        raise RuntimeError("the network was asked")

    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(CIFAR10=downloaded))
    assert catalog.is_available("cifar10", tree.parent, True, "cifar10") == (True, "")
    assert "the network was asked" in complaint(stage, "cifar10", tree.parent, True, Reading("cifar10"))


@pytest.fixture(scope="module")
def real() -> Path:
    root = Path(os.environ.get("LAYERPRUNE_DATA", "data"))
    if catalog.present_form("cifar10", root) is None:
        pytest.skip(f"real CIFAR-10 is absent from {root}")
    return root


@pytest.mark.real_data
def test_real_images_are_split_45000_5000_10000_and_balanced(real: Path) -> None:
    data = load("cifar10", real)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45000, 5000, 10000]
    assert torch.bincount(data.validation.labels).tolist() == [500] * 10
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-3)
