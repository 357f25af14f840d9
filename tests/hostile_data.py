"""Data sets that a stranger might have left, made in a folder each, and a program that tries to load them all.

The program runs in a process of its own, with 6 GB of address space and a minute a case: `python hostile_data.py`.
"""

import contextlib
import gzip
import io
import json
import os
import resource
import signal
import struct
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from cifar_helpers import add, pack, write_archive, write_tree
from data_helpers import TRAIN_IMAGES, UNCHECKED, idx_bytes, write_mnist_like

GIGABYTE = 10**9
ADDRESS_SPACE, SECONDS = 6 * 2**30, 60

# --- files ------------------------------------------------------------------------------------------------------------


def sparse(path: Path, start: bytes, size: int = 10 * GIGABYTE) -> Path:
    """A file of so many bytes that takes no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def gzip_bomb(path: Path, start: bytes) -> Path:
    """10 GB of zeros after a start, as gzip members one after another."""
    part = gzip.compress(bytes(2**25), 9)
    path.write_bytes(gzip.compress(start) + part * (10 * GIGABYTE // 2**25))
    return path


def png(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG whose header promises a size, with the first rows as zeros: it need not be whole to be dangerous."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = zlib.compress(bytes(2**20)) if width * height > 2**26 else zlib.compress(bytes((3 * width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


# --- MNIST ------------------------------------------------------------------------------------------------------------


def idx_bomb(folder: Path, count: int = 10 * GIGABYTE // 784) -> None:
    write_mnist_like(folder)
    (folder / TRAIN_IMAGES).unlink()
    gzip_bomb(folder / f"{TRAIN_IMAGES}.gz", struct.pack(">4I", 0x803, count, 28, 28))


def idx_bomb_behind(folder: Path) -> None:
    idx_bomb(folder, 120)


def idx_sparse(folder: Path) -> None:
    write_mnist_like(folder)
    sparse(folder / TRAIN_IMAGES, struct.pack(">4I", 0x803, 10 * GIGABYTE // 784, 28, 28))


def idx_sparse_behind(folder: Path) -> None:
    write_mnist_like(folder)
    sparse(folder / TRAIN_IMAGES, idx_bytes(np.zeros((120, 28, 28))))


def idx_instead(folder: Path, make: Callable[[Path], None]) -> None:
    write_mnist_like(folder)
    (folder / TRAIN_IMAGES).unlink()
    make(folder / TRAIN_IMAGES)


def idx_endless(folder: Path) -> None:
    idx_instead(folder, lambda path: path.symlink_to("/dev/zero"))


def idx_pipe(folder: Path) -> None:
    idx_instead(folder, os.mkfifo)


def idx_folder(folder: Path) -> None:
    idx_instead(folder, Path.mkdir)


def idx_dangling(folder: Path) -> None:
    idx_instead(folder, lambda path: path.symlink_to("nowhere"))


# --- CIFAR's archive --------------------------------------------------------------------------------------------------

ARCHIVE = "cifar-10-python.tar.gz"


def archive_bomb(folder: Path) -> None:
    gzip_bomb(folder / ARCHIVE, header("data_batch_1", 10 * GIGABYTE))


def archive_bomb_beside(folder: Path) -> None:
    gzip_bomb(folder / ARCHIVE, header("other", 10 * GIGABYTE))


def archive_of_names(folder: Path) -> None:
    gzip_bomb(folder / ARCHIVE, header("././@LongLink", 10 * GIGABYTE, tarfile.GNUTYPE_LONGNAME))


def archive_of_notes(folder: Path) -> None:
    gzip_bomb(folder / ARCHIVE, header("notes", 10 * GIGABYTE, tarfile.XHDTYPE))


def archive_backwards(folder: Path) -> None:
    (folder / ARCHIVE).write_bytes(
        gzip.compress(bytes(512).join([header("data_batch_1", 0)] * 2).replace(b"\0", b"\0"))
    )
    content = bytearray(header("data_batch_1", 0))
    content[124:136] = b"\xff" * 10 + b"\xfe\x00"  # the size, negative
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content)
    (folder / ARCHIVE).write_bytes(gzip.compress(bytes(content) * 2 + bytes(1024)))


def archive_sparse(folder: Path) -> None:
    """A plain tar, under a compressed one's name, that a few bytes make 10 GB long."""
    sparse(folder / ARCHIVE, header("data_batch_1", 10 * GIGABYTE), 512 + 10 * GIGABYTE)


def archive_twice(folder: Path) -> None:
    write_archive(folder / ARCHIVE)
    with tarfile.open(folder / ARCHIVE) as old:
        content = {each.name: old.extractfile(each).read() for each in old}
    with tarfile.open(folder / ARCHIVE, "w:gz") as new:
        for name, batch in [*content.items(), ("elsewhere/test_batch", content["cifar-10-batches-py/test_batch"])]:
            add(new, name, batch)


def archive_pipe(folder: Path) -> None:
    os.mkfifo(folder / ARCHIVE)


# --- trees of images --------------------------------------------------------------------------------------------------

IMAGE = "train/class4/0007.jpg"


def tree(folder: Path) -> Path:
    made = write_tree(folder / "cifar10-jpeg", 4)
    if "imagenet" in folder.name:
        (made / "test").rename(made / "val")
    return made


def image_instead(folder: Path, make: Callable[[Path], object]) -> None:
    path = tree(folder) / "train/class4/0002.jpg"
    path.unlink()
    make(path)


def image_huge_header(folder: Path) -> None:
    image_instead(folder, lambda path: path.write_bytes(png(100_000, 100_000)))


def image_huge(folder: Path) -> None:
    image_instead(folder, lambda path: path.write_bytes(png(13_000, 13_000)))


def image_sparse(folder: Path) -> None:
    image_instead(folder, lambda path: sparse(path, png(32, 32)))


def image_pipe(folder: Path) -> None:
    image_instead(folder, os.mkfifo)


def image_endless(folder: Path) -> None:
    image_instead(folder, lambda path: path.symlink_to("/dev/zero"))


def image_dangling(folder: Path) -> None:
    image_instead(folder, lambda path: path.symlink_to("nowhere"))


def image_name(folder: Path) -> None:
    path = tree(folder) / "train/class4/0002.jpg"
    path.rename(Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe.jpg")))


def tree_loop(folder: Path) -> None:
    below = tree(folder) / "train"
    for name in ("one", "two"):
        (below / name).symlink_to(".")


def tree_pipe(folder: Path) -> None:
    os.mkfifo(folder / "cifar10-jpeg.tar")


def tar_sparse(folder: Path) -> None:
    sparse(folder / "cifar10-jpeg.tar", header(IMAGE, 10 * GIGABYTE), 512 + 10 * GIGABYTE)


def tar_huge_image(folder: Path) -> None:
    archive = pack(tree(folder.parent / f"{folder.name}-made"), folder / "cifar10-jpeg.tar")
    start = archive.read_bytes()
    start = start[: len(start) - len(start[len(start.rstrip(b"\0")) :]) // 512 * 512]
    sparse(archive, start + header(IMAGE, 10**8), len(start) + 512 + 10**8 + 1024)


def tar_of_names(folder: Path) -> None:
    start = header("././@LongLink", 3 * 10**8, tarfile.GNUTYPE_LONGNAME)
    sparse(folder / "cifar10-jpeg.tar", start, 512 + 3 * 10**8)


def tar_twice(folder: Path) -> None:
    archive = pack(tree(folder.parent / f"{folder.name}-made"), folder / "cifar10-jpeg.tar")
    with tarfile.open(archive, "a") as tar:
        add(tar, "train/class4/0002.jpg", png(32, 32))


def tar_name(folder: Path) -> None:
    archive = pack(tree(folder.parent / f"{folder.name}-made"), folder / "cifar10-jpeg.tar")
    with tarfile.open(archive, "a") as tar:
        add(tar, "train/class4/\udcff.jpg", png(32, 32))


def tar_bomb(folder: Path) -> None:
    gzip_bomb(folder / "cifar10-jpeg.tar.gz", header(IMAGE, 10 * GIGABYTE))


OF_MNIST = (idx_bomb, idx_bomb_behind, idx_sparse, idx_sparse_behind, idx_endless, idx_pipe, idx_folder, idx_dangling)
OF_ARCHIVES = (archive_bomb, archive_bomb_beside, archive_of_names, archive_of_notes, archive_backwards)
OF_ARCHIVES += (archive_sparse, archive_twice, archive_pipe)
OF_TREES = (image_huge_header, image_huge, image_sparse, image_pipe, image_endless, image_dangling, image_name)
OF_TREES += (tree_loop, tree_pipe, tar_sparse, tar_huge_image, tar_of_names, tar_twice, tar_name, tar_bomb)
CASES = {"mnist": OF_MNIST, "cifar10": OF_ARCHIVES, "cifar10-jpeg": OF_TREES, "imagenet-tiny40": OF_TREES[:-4]}
ALL = [(form, make.__name__) for form, makers in CASES.items() for make in makers]


# --- the program ------------------------------------------------------------------------------------------------------


def attempt(form: str, folder: Path) -> str:
    """What loading says, in full."""
    from layerprune.core.data import cifar, imagenet, mnist
    from layerprune.core.data.catalog import CIFAR10, CIFAR10_JPEG, IMAGENET_TINY40
    from layerprune.errors import LayerpruneError

    known = {**CIFAR10.__dict__, "md5": {}}
    loads = {
        "mnist": lambda: mnist.load(folder, UNCHECKED),
        "cifar10": lambda: cifar.load(folder, type(CIFAR10)(**known)),
        "cifar10-jpeg": lambda: cifar.load(folder, CIFAR10_JPEG),
        "imagenet-tiny40": lambda: imagenet.load(folder, "imagenet-tiny40"),
    }
    small = type(IMAGENET_TINY40)(**{**IMAGENET_TINY40.__dict__, "classes": 10, "size": 32})
    with mock.patch.dict("layerprune.core.data.catalog._FORMS", {"imagenet": (small,)}):
        try:
            loads[form]()
        except LayerpruneError as error:
            return str(error)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    return "loaded"


def prepared(form: str, name: str, root: Path) -> Path:
    """A folder with the data; what is for CIFAR's tree serves as ImageNet's by other names."""
    folder = root / f"{form}-{name}"
    folder.mkdir()
    next(make for make in CASES[form] if make.__name__ == name)(folder)
    if form == "imagenet-tiny40":
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace("cifar10-jpeg", form))
    return folder


def main(root: Path, cases: list[list[str]]) -> None:
    """Print, a JSON line a case, what was said, in how many seconds, and by how many bytes the peak of memory grew."""
    from layerprune.core.data import cifar, imagenet, mnist  # noqa: F401 -- before the clock runs

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.chdir(root)
    for form, name in cases:
        folder = prepared(form, name, root)
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.alarm(SECONDS)
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            said = attempt(form, folder)
        signal.alarm(0)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        seconds = time.monotonic() - start
        told = {"case": f"{form} {name}", "said": said, "seconds": seconds, "grown": grown, "stderr": stderr.getvalue()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
