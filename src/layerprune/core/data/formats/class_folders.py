"""A class-folder tree of images, <part>/<class>/<image>, in a folder or in a tar file that is read in place.

Images must be colour (or what `channels` says) and of one size; every other image stops the reading with one line
that names it. Classes are numbered in the alphabetical order of their folders, images go in the order of their names.
"""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from layerprune.core.data.formats import tar
from layerprune.errors import LayerpruneError

PARTS = ("train", "test")
_MODES = {1: "L", 3: "RGB"}
_WORDS = {"L": "grey", "RGB": "colour"}
_IMAGES = {".jpg", ".jpeg", ".png"}


def read_class_folders(
    path: Path, classes: int, channels: int, size: int
) -> dict[str, tuple[np.ndarray, np.ndarray, list[str]]]:
    """Part -> images uint8 [N, C, size, size], labels int64 [N] and class names. Raises LayerpruneError."""
    trees = _grouped(path)
    read = {part: _read_part(path, part, trees.get(part, {}), channels, size) for part in PARTS}
    for part, (_, _, names) in read.items():
        if len(names) != classes:
            raise LayerpruneError(f"{path}: {part}/ holds {len(names)} classes instead of {classes}")
        if names != read["train"][2]:
            odd = sorted(set(names) ^ set(read["train"][2]))[0]
            raise LayerpruneError(f"{path}: train/ and test/ hold different classes (first: '{odd}')")
    return read


Tree = dict[str, dict[str, dict[str, bytes | None]]]
"""Part -> class -> image name -> its bytes, None for those that lie in a folder and are read when their turn comes."""


def _grouped(path: Path) -> Tree:
    tree: Tree = {}
    for name, is_folder, content in _members(path):
        parts = PurePosixPath(name).parts
        # A tar may have one folder around train/ and test/.
        start = next((place for place, part in enumerate(parts[:2]) if part in PARTS), None)
        below = parts[start + 1 :] if start is not None else ()
        if len(below) < (1 if is_folder else 2):  # neither a class nor anything in one
            continue
        images = tree.setdefault(parts[start], {}).setdefault(below[0], {})
        if not is_folder and PurePosixPath(name).suffix.lower() in _IMAGES:
            images[name] = content
    return tree


def _members(path: Path) -> Iterator[tuple[str, bool, bytes | None]]:
    """Below `path`: names, whether it is a folder, and contents where `path` is a tar file."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            yield file.relative_to(path).as_posix(), file.is_dir(), None
        return
    for name, content in tar.members(path):
        yield name, content is None, content


def _read_part(
    path: Path, part: str, tree: dict[str, dict[str, bytes | None]], channels: int, size: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    if not tree:
        raise LayerpruneError(f"{path}: has no folder {part}/ with a folder for every class")
    names = sorted(tree)
    images, labels = [], []
    for label, name in enumerate(names):
        if not tree[name]:
            raise LayerpruneError(f"{path}: class folder {part}/{name} holds no images")
        for file in sorted(tree[name]):
            images.append(_decode(path, file, tree[name][file], channels, size))
            labels.append(label)
    return np.stack(images), np.asarray(labels, np.int64), names


def _decode(path: Path, name: str, content: bytes | None, channels: int, size: int) -> np.ndarray:
    """One image as uint8 [C, size, size]."""
    where, mode = path / name, _MODES[channels]
    try:
        with Image.open(io.BytesIO(content) if content is not None else where) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises these for damaged files
        raise LayerpruneError(f"{where}: not a sound image: {' '.join(str(error).split())}") from None
    if image.mode != mode:
        raise LayerpruneError(f"{where}: {_WORDS.get(image.mode, image.mode)} image instead of a {_WORDS[mode]} one")
    if image.size != (size, size):
        width, height = image.size
        raise LayerpruneError(f"{where}: {height}x{width} pixels instead of {size}x{size}")
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
