"""A campaign's archive: one .tar.gz of bounded size, with what later runs need most first.

    results/<run>/record.json, curves.csv, arch.json    of finished runs
    results/<run>/weights.safetensors                   of those that later runs start from; of others as room allows
    state/<run>/state.pt                                of unfinished runs
    summary.md

Each part is a gzip member of its own, of which a .gz file may hold several, so its size is known before it is taken.
"""

import gzip
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from layerprune.errors import LayerpruneError
from layerprune.suite import config, store
from layerprune.suite.config import Preset
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

LIMIT = 15_000_000
"""Bytes of an archive."""
FOR_SUMMARY = 100_000
"""Bytes of it reserved for the summary."""
NEVER_SMALLER = 0.5
"""Weights and states do not compress below this share of their size: larger ones are not even tried."""
BLOCK = tarfile.BLOCKSIZE
END = gzip.compress(bytes(2 * BLOCK), mtime=0)


class Archive:
    """An archive in the making."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self.room = limit - len(END)

    def take(self, contents: Mapping[str, bytes], keep_free: int = FOR_SUMMARY) -> bool:
        """Add files, all of them or none; returns whether there was room."""
        room = self.room - keep_free
        if sum(map(len, contents.values())) * NEVER_SMALLER > room and len(contents) == 1:
            return False
        part = gzip.compress(b"".join(_entry(name, content) for name, content in contents.items()), 6, mtime=0)
        if len(part) > room:
            return False
        self.parts.append(part)
        self.room -= len(part)
        return True

    def write(self, path: Path) -> None:
        files.write_atomically(path, lambda stream: stream.writelines([*self.parts, END]))


def _entry(name: str, content: bytes) -> bytes:
    """A file in a tar archive: its header, and its content in whole blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def name_in_archive(path: Path) -> str:
    """A file's name in an archive: its place below the root."""
    return path.relative_to(paths.root()).as_posix()


def write(
    path: Path,
    preset: Preset,
    made: list[RunKey],
    unmade: list[RunKey],
    summary: Callable[[list[str]], str],
    limit: int = LIMIT,
) -> str:
    """Write the archive of made runs and of the states of unmade ones; returns the summary in it.

    `summary` makes it of the names that found no room. A file that is not what its record says is among them.
    """
    archive, left_out = Archive(limit), []

    def take(names: Iterable[Path], digests: Iterable[str | None]) -> bool:
        try:
            told = dict(zip(names, digests, strict=True))
            contents = {name_in_archive(each): store.read_checked(each, digest) for each, digest in told.items()}
        except LayerpruneError as error:
            left_out.append(str(error))
            return False
        if not (taken := archive.take(contents)):
            left_out.extend(contents)
        return taken

    taken = [key for key in made if take(*_texts(key))]
    needed = [parent for key in unmade for parent in config.weight_prerequisites(preset, key)]
    first = [key for key in dict.fromkeys(needed) if key in taken]
    _take_weights(first, take)
    for key in unmade:
        if paths.state(key).is_file():
            take([paths.state(key)], [None])
    _take_weights([key for key in taken if key not in first], take)
    text = summary(left_out)
    archive.take({str(paths.campaign_summary()): text.encode()}, keep_free=0)
    archive.write(path)
    return text


def _texts(key: RunKey) -> tuple[list[Path], list[str | None]]:
    told = store.find(key).files
    there = [(paths.arch(key), told.arch), (paths.curves(key), told.curves), (paths.record(key), None)]
    return [path for path, _ in there], [digest for _, digest in there]


def _take_weights(keys: Iterable[RunKey], take: Callable[[Iterable[Path], Iterable[str | None]], bool]) -> None:
    for key in keys:
        if paths.weights(key).is_file():
            take([paths.weights(key)], [store.find(key).files.weights])


def is_only_in_folder(key: RunKey) -> bool:
    """Whether a run's record is in its folder but not in the store, so that it would be lost with the machine."""
    if not paths.record(key).is_file():
        return False
    own = store.find(key).checksum
    return all(own != each.checksum for each in store.all_stored(key))
