"""Where the images of a class-folder tree lie: <part>/<class>/<image>, in a folder or a plain tar file, read in place.

Classes are numbered in the alphabetical order of their folders, images follow the order of their names, however they
are stored; the tree may be wrapped in one more folder. Only names, places and labels are held: some tens of bytes an
image, in arrays that processes share.
"""

import gzip
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from layerprune.core.data import tars
from layerprune.errors import LayerpruneError
from layerprune.system import files

PARTS = ("train", "val")
"""As ImageNet names them."""
SUFFIXES = {".jpg", ".jpeg", ".png"}


LARGEST_IMAGE = 2**26
"""Files larger than this, in bytes, are not images: ImageNet's largest has 15 million."""


def _checked_size(size: int) -> int:
    if size > LARGEST_IMAGE:
        raise OSError(f"too large: {size:,} bytes")
    return size


_LARGEST_SWELLING = 20
"""By what factor a compressed tar may grow when unpacked: images hardly do, the tar around small ones grows a few
times."""


class Member(NamedTuple):
    """A file or folder below the tree's root; `offset` and `size` locate it in a tar file."""

    name: str
    is_folder: bool
    offset: int = 0
    size: int = 0


@dataclass(frozen=True, eq=False)
class Images:
    """One part's images. `names` bytes [N], `offsets` and `sizes` int64 [N] (of a tar file), `labels` int64 [N]."""

    root: Path
    classes: tuple[str, ...]
    names: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    _open: dict[int, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Images":
        """The images at `indices` (int64)."""
        parts = {name: getattr(self, name)[indices] for name in ("names", "offsets", "sizes", "labels")}
        return replace(self, **parts)

    def where(self, index: int) -> str:
        """The image's name, for people."""
        return f"{self.root}/{self.names[index].decode()}"

    def content(self, index: int) -> bytes:
        """The image's file. Raises OSError where it cannot be read."""
        if self.root.is_dir():
            with files.regular(self.root / self.names[index].decode()) as stream:
                return stream.read(_checked_size(os.fstat(stream.fileno()).st_size))
        return os.pread(self._descriptor(), _checked_size(int(self.sizes[index])), int(self.offsets[index]))

    def _descriptor(self) -> int:
        """The tar file, opened once in each process: worker processes must not share a place in it."""
        process = os.getpid()
        if process not in self._open:
            self._open[process] = os.open(self.root, os.O_RDONLY)
        return self._open[process]


def read_index(root: Path, parts: tuple[str, str] = PARTS, classes: int | None = None) -> dict[str, Images]:
    """The two parts of a tree in a folder or a plain tar file, or in a folder with a tar file of each, as train.tar.

    Raises LayerpruneError for a file that is no such tar, a name that leads out of the tree, a part or class that is
    missing or empty, parts with different classes, and another number of them than `classes`.
    """
    archives = {part: root / f"{part}.tar" for part in parts}
    if all(path.is_file() for path in archives.values()):
        index = {part: _part_in(path, part) for part, path in archives.items()}
    else:
        grouped = _grouped(_members(root), root, parts)
        index = {part: _images(root, part, grouped.get(part, {})) for part in parts}
    _check_classes(root, index, classes)
    return index


def _check_classes(root: Path, index: dict[str, Images], expected: int | None) -> None:
    (first, second), (some, others) = index, (set(images.classes) for images in index.values())
    if some != others:
        odd = min(some ^ others)
        raise LayerpruneError(f"{root}: {second if odd in some else first}/ has no folder for class '{odd}'")
    if expected is not None and len(some) != expected:
        raise LayerpruneError(f"{root}: {first}/ holds {len(some)} classes instead of {expected}")


def _part_in(archive: Path, part: str) -> Images:
    """One part from a tar file of its own, whose class folders may be inside a folder named after the part."""
    members = list(_members(archive))
    if not any(PurePosixPath(member.name).parts[:1] == (part,) for member in members):
        grouped = _grouped(members, archive, (part,), within=part)
    else:
        grouped = _grouped(members, archive, (part,))
    return _images(archive, part, grouped.get(part, {}))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A tree that can be read in place: `path` itself, or of a gzip-compressed tar an unpacked copy, for a while.

    Raises LayerpruneError for a damaged archive and if there is no room; errors about the copy name `path`.
    """
    if path.suffix not in (".gz", ".tgz"):
        yield path
        return
    with ExitStack() as held:
        copy = _unpacked_copy(path, held)
        try:
            yield copy
        except LayerpruneError as error:
            raise LayerpruneError(str(error).replace(str(copy), str(path))) from None


def _unpacked_copy(path: Path, held: ExitStack) -> Path:
    """A plain copy of a compressed tar, for as long as `held` is."""
    try:
        copy = Path(held.enter_context(tempfile.TemporaryDirectory()), path.stem)
        with files.regular(path) as stream, gzip.open(stream) as packed, open(copy, "wb") as unpacked:
            most = _LARGEST_SWELLING * os.fstat(stream.fileno()).st_size + LARGEST_IMAGE
            while part := packed.read(2**20):
                if unpacked.tell() > most:
                    raise LayerpruneError(f"{path}: unpacked it has more than {most:,} bytes: refused")
                unpacked.write(part)
        return copy
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LayerpruneError(f"{path}: not a sound gzip archive: {error}") from None
    except OSError as error:
        reason = f"cannot be unpacked into TMPDIR: {error.strerror or error}"
        raise LayerpruneError(f"{path}: {' '.join(reason.split())}") from None


def _members(root: Path) -> Iterator[Member]:
    if root.is_dir():
        for folder, below, inside in os.walk(root, followlinks=True):
            here = Path(folder).relative_to(root)
            _check_links(Path(folder), below)
            yield from (Member((here / name).as_posix(), True) for name in below)
            yield from (Member((here / name).as_posix(), False) for name in inside)
        return
    if not root.exists():
        raise LayerpruneError(f"{root}: no such folder or tar file")
    for _, each in tars.members(root):
        if each.isdir() or each.isfile():
            yield Member(each.name, each.isdir(), each.offset_data, each.size)


def _check_links(folder: Path, below: list[str]) -> None:
    """Raises LayerpruneError for a link to a folder that contains it: walking it would never end."""
    for link in filter(Path.is_symlink, (folder / name for name in below)):
        if folder.resolve().is_relative_to(link.resolve()):
            raise LayerpruneError(f"{link}: a link to a folder that contains it")


Grouped = dict[str, dict[str, list[Member]]]
"""Part -> class -> images."""


def _grouped(members: Iterable[Member], root: Path, parts: Sequence[str], within: str | None = None) -> Grouped:
    """Images by part and class; `within` is the part of members whose names begin with their class."""
    trees: dict[tuple[str, ...], Grouped] = {}  # by the folder around them: there may be one
    for member in members:
        names = _names(member, root, within)
        start = next((place for place, name in enumerate(names[:2]) if name in parts), len(names))
        if len(names) - start < (2 if member.is_folder else 3):
            continue
        part, label = names[start : start + 2]
        images = trees.setdefault(names[:start], {}).setdefault(part, {}).setdefault(label, [])
        if not member.is_folder and PurePosixPath(names[-1]).suffix.lower() in SUFFIXES:
            images.append(member)
    return trees[min(trees, key=len)] if trees else {}


def _names(member: Member, root: Path, within: str | None) -> tuple[str, ...]:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise LayerpruneError(f"{root}: '{member.name}' leads out of the archive: refused")
    return (within, *path.parts) if within is not None else path.parts


def _images(root: Path, part: str, by_class: dict[str, list[Member]]) -> Images:
    if not by_class:
        raise LayerpruneError(f"{root}: has no folder {part}/ with a folder for every class")
    classes = sorted(by_class)
    empty = [name for name in classes if not by_class[name]]
    if empty:
        raise LayerpruneError(f"{root}: class folder {part}/{empty[0]} holds no images")
    members = [member for name in classes for member in sorted(by_class[name])]
    _check_names(root, [member.name for member in members])
    labels = [label for label, name in enumerate(classes) for _ in by_class[name]]
    return Images(
        root=root,
        classes=tuple(classes),
        names=np.array([member.name.encode() for member in members]),
        offsets=_numbers([member.offset for member in members]),
        sizes=_numbers([member.size for member in members]),
        labels=_numbers(labels),
    )


def _check_names(root: Path, names: list[str]) -> None:
    twice = next((name for name, after in pairwise(names) if name == after), None)
    if twice is not None:
        raise LayerpruneError(f"{root}: holds {twice} twice")
    odd = next((name for name in names if not _is_text(name)), None)
    if odd is not None:
        raise LayerpruneError(f"{root}: the name {odd!a} is not UTF-8")


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _numbers(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)
