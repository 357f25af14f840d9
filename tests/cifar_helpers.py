"""Small made-up CIFAR data: class-folder trees of real JPEG files, and archives in the publisher's layout."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = [f"class{number}" for number in range(10)]


def write_tree(folder: Path, train: int = 20, test: int = 2, classes: list[str] = CLASSES) -> Path:
    """train/ and test/ with that many images a class; the mean brightness tells the class."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 10, (32, 32, 3)) + 20 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{number:04d}.jpg", quality=95)
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """The tree as a tar file, its members in an order of no meaning."""
    mode = "w:gz" if archive.suffix == ".gz" else "w"
    with tarfile.open(archive, mode) as tar:
        for file in sorted(folder.rglob("*.jpg"), key=lambda path: path.name[::-1]):
            tar.add(file, file.relative_to(folder).as_posix())
    return archive


def write_archive(
    path: Path, folder: str = "cifar-10-batches-py", labels: bytes = b"labels", classes: int = 10
) -> Path:
    """An archive of pickles: five training batches of 40 images and a test batch, or one of each for CIFAR-100."""
    random = np.random.default_rng(1)
    names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    names = names if classes == 10 else ["train", "test"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            count = 4 * classes
            batch = {
                b"data": random.integers(0, 256, (count, 3072)).astype(np.uint8),
                labels: (np.arange(count) % classes).tolist(),
            }
            add(tar, f"{folder}/{name}", pickle.dumps(batch, protocol=2))
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
