"""Reads an untrusted campaign archive: it may be damaged, or malicious.

Only plain files with the names of results are accepted, and no more bytes than a campaign could have written. Nothing
is written here, and nothing in an archive is run.
"""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from layerprune.core.settings.types import Slug
from layerprune.core.training.state import intact
from layerprune.errors import LayerpruneError
from layerprune.suite import record, store
from layerprune.suite.campaign.archive import name_in_archive
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

LARGEST = 64_000_000
"""Bytes of an archive file."""
LARGEST_INSIDE = 256_000_000
"""Bytes of all that is in it, with which a few well-compressed bytes could fill memory."""
MOST_FILES = 20_000
_END = bytes(2 * tarfile.BLOCKSIZE)
_SLUG = TypeAdapter(Slug)


@dataclass
class Contents:
    """The records of an archive, the content of their files by path, and states of runs that have no record."""

    records: dict[RunKey, Record] = field(default_factory=dict)
    files: dict[Path, bytes] = field(default_factory=dict)
    states: dict[RunKey, bytes] = field(default_factory=dict)


def read(path: Path) -> Contents:
    """Read and check a whole archive. Raises LayerpruneError naming what in it is wrong."""
    contents = Contents()
    for key, target, content in _members(path):
        if target == paths.state(key):
            intact(content, f"{path}: {name_in_archive(target)}")
            contents.states[key] = content
        else:
            contents.files[target] = content
    for key in dict.fromkeys(paths.parse_run_folder(target.parent) for target in contents.files):
        contents.records[key] = _checked_record(path, key, contents.files)
    return contents


def _members(path: Path) -> Iterator[tuple[RunKey, Path, bytes]]:
    seen = set()
    try:
        unpacked = _unpacked(path)
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    raise LayerpruneError(f"{path}: {member.name!r} is not a plain file")
                if member.name in seen:
                    raise LayerpruneError(f"{path}: {member.name!r} is in it twice")
                seen.add(member.name)
                if len(seen) > MOST_FILES:
                    raise LayerpruneError(f"{path}: holds more than {MOST_FILES:,} files")
                if member.name != str(paths.campaign_summary()):
                    yield *_meant(path, member.name), archive.extractfile(member).read()
            if (
                unpacked[archive.offset : archive.offset + len(_END)] != _END
            ):  # cut between two gzip members, it looks whole
                raise LayerpruneError(f"{path}: damaged: it ends too early")
    except (tarfile.TarError, ValueError) as error:  # the second for headers whose numbers are none
        raise LayerpruneError(f"{path}: damaged: {error}") from None


def _unpacked(path: Path) -> bytes:
    """The tar archive in a .tar.gz, whose every gzip member is checked."""
    try:
        with files.regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > LARGEST:
                raise LayerpruneError(f"{path}: larger than an archive of a campaign")
            with gzip.open(stream) as packed:
                unpacked = packed.read(LARGEST_INSIDE + 1)
    except EOFError:
        raise LayerpruneError(f"{path}: damaged: it ends too early") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise LayerpruneError(f"{path}: damaged: {error}") from None
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read: {error.strerror or error}") from None
    if len(unpacked) > LARGEST_INSIDE:
        raise LayerpruneError(f"{path}: holds more than an archive of a campaign")
    return unpacked


def _meant(path: Path, name: str) -> tuple[RunKey, Path]:
    """The run that a file belongs to, and where it goes. Raises LayerpruneError for every other name."""
    parts = PurePosixPath(name).parts
    try:
        key = paths.parse_run_folder(Path(*parts[:-1]))
        for slug in parts[1:-2]:
            _SLUG.validate_python(slug)
    except (ValueError, ValidationError, TypeError):
        raise LayerpruneError(f"{path}: {name!r} is not a file of a run") from None
    for place in (paths.record, paths.curves, paths.arch, paths.weights, paths.state):
        if name_in_archive(place(key)) == name:
            return key, place(key)
    raise LayerpruneError(f"{path}: {name!r} is not a file of a run")


def _checked_record(path: Path, key: RunKey, found: dict[Path, bytes]) -> Record:
    """A run's record, whose other files are what it says; weights may be absent."""
    own = paths.record(key)
    source = f"{path}: {name_in_archive(own)}"
    if own not in found:
        raise LayerpruneError(f"{path}: {key} has files and no record")
    try:
        text = found[own].decode()
    except UnicodeDecodeError:
        raise LayerpruneError(f"{source}: not readable as JSON") from None
    made = record.parsed(files.parse_json(text, source), source)
    if made.key != key:
        raise LayerpruneError(f"{source}: is the record of {made.key}")
    for place in (paths.arch, paths.curves, paths.weights):
        target, digest = place(key), getattr(made.files, place.__name__)
        if target in found:
            store.checked(found[target], digest or "none", f"{path}: {name_in_archive(target)}")
        elif digest is not None and place is not paths.weights:
            raise LayerpruneError(f"{path}: {name_in_archive(target)} is missing")
    return made
