"""The store: a preset's results as they are committed, few files a data set instead of a folder a run. No torch.

    records.jsonl        a record a line, keys sorted, lines in the order of their runs
    arrays.jsonl.xz      what is long in a record's details, its settings and the checksums of its data, by run
    curves.jsonl.xz      curves.csv and arch.json of every run, as they were
    weights/             weights of the headline networks, most in half precision

Git should hold no large file, so a compressed one that would be has more parts, arrays.2.jsonl.xz and so on.
Results are looked up here and in the runs' own folders, and a folder wins. Of a run made anew the older record stays in
the store as long as another stored run starts from it. Everything is checked against its SHA-256 when it is read.
"""

import json
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from layerprune.core.settings.types import Seed, Slug
from layerprune.errors import LayerpruneError
from layerprune.suite import half_precision, record
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.files import sha256
from layerprune.system.paths import RunKey

LONG = 100
"""Characters of JSON from which on a part of a record's details goes to a file of its own."""
APART = ("details", "provenance")
"""Fields of a record of which some parts are not in its line."""
LARGEST = 2**28
"""Bytes of a file of the store, and of what is packed in it: that of some ten thousand runs."""
LARGEST_PART = 900_000
"""Bytes from which on a compressed file has more parts."""
Line = dict[str, Any]
_NAMES = TypeAdapter(tuple[str, str, Slug, Slug, Slug, Seed])
"""Of a run. They become the names of folders, so a stranger's must not lead out of them."""


@dataclass(frozen=True)
class Texts:
    """A run's curves.csv and arch.json, None where it has none."""

    curves: str | None
    arch: str | None


# --- looking up ---------------------------------------------------------------------------------------------------


def find(key: RunKey) -> Record | None:
    """A run's record: its folder's, else the store's; None if there is neither.

    Raises LayerpruneError for one that is malformed or was altered.
    """
    own = paths.record(key)
    return record.read(own) if own.is_file() else stored(key)


def exists(key: RunKey) -> bool:
    """Whether a run has a record, sound or not."""
    return paths.record(key).is_file() or bool(_lines_of(key))


def stored(key: RunKey) -> Record | None:
    """The record in the store, of several the one that was packed last."""
    path = paths.stored_records(key.preset, key.dataset)
    arrays = _stamped(paths.stored_arrays(key.preset, key.dataset))
    return _last(key, (path, _stamp(path)), arrays) if _lines_of(key) else None


def all_stored(key: RunKey) -> list[Record]:
    """Every record of a run in the store."""
    return [_parsed(line, key) for line in _lines_of(key)]


def digests(key: RunKey) -> set[str]:
    """Digests of the records that a run has: what another run may have started from."""
    own = [record.read(paths.record(key))] if paths.record(key).is_file() else []
    return {each.digest() for each in [*own, *all_stored(key)]}


def curves(key: RunKey) -> str | None:
    """The text of a run's curves.csv, from where its record is; None where it has none."""
    return _text(key, "curves")


def arch(key: RunKey) -> Any:
    """The description of the network that a run left; None where it has none."""
    text = _text(key, "arch")
    return None if text is None else files.parse_json(text, paths.arch(key))


def _text(key: RunKey, name: str) -> str | None:
    own = {"curves": paths.curves, "arch": paths.arch}[name](key)
    if paths.record(key).is_file():
        return _decoded(own, getattr(record.read(paths.record(key)).files, name)) if own.is_file() else None
    made = stored(key)
    if made is None or (text := getattr(_texts_of(key).get(made.checksum, Texts(None, None)), name)) is None:
        return None
    path = paths.stored_texts(key.preset, key.dataset)
    try:
        checked(text.encode(), getattr(made.files, name), path)
    except UnicodeEncodeError:
        raise LayerpruneError(f"{path}: {key}: {name}: not a text in UTF-8") from None
    return text


def _decoded(path: Path, digest: str | None) -> str:
    content = read_checked(path, digest)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise LayerpruneError(f"{path}: not a text in UTF-8") from None


def weights(key: RunKey) -> Path | None:
    """The file of a run's weights as they were trained, its folder's or a headline network's, checked; None if there is
    none."""
    if paths.record(key).is_file():
        made, path = record.read(paths.record(key)), paths.weights(key)
    else:
        made, path = stored(key), paths.stored_weights(key)
    if made is None or not path.is_file():
        return None
    read_checked(path, made.files.weights)
    return path


def half_weights(made: Record) -> Path | None:
    """The file in the store with a run's weights in half precision, checked; None if there is none for this record.

    They give the run's accuracy, but no other run starts from them.
    """
    path = paths.half_weights(made.key)
    if not path.exists():
        return None
    origin = half_precision.origin(files.read_regular(path, files.LARGEST_WEIGHTS), path)
    if origin not in {each.files.weights for each in (made, *all_stored(made.key))}:
        raise LayerpruneError(f"{path}: rounded from other weights than those in the run's record")
    return path if origin == made.files.weights else None  # of a record that was replaced since


def read_checked(path: Path, digest: str | None) -> bytes:
    """A file's content. Raises LayerpruneError where it is not what its record says."""
    return checked(files.read_regular(path, files.LARGEST_WEIGHTS), digest, path)


def checked(content: bytes, digest: str | None, source: object) -> bytes:
    """The content, if it has this digest. Raises LayerpruneError naming the source."""
    if digest is not None and sha256(content) != digest:
        raise LayerpruneError(f"{source}: damaged or altered: its SHA-256 is not the one in the run's record")
    return content


def first(preset: str, dataset: str) -> Record | None:
    """The record of the first run in the store of a data set; None if the store has none."""
    key = next(iter(_records(paths.stored_records(preset, dataset))), None)
    return None if key is None else stored(key)


def keys(preset: str, dataset: str) -> list[RunKey]:
    """Every run in the store of a data set, in its order."""
    return list(_records(paths.stored_records(preset, dataset)))


# --- the files ----------------------------------------------------------------------------------------------------


def _lines_of(key: RunKey) -> list[Line]:
    return _records(paths.stored_records(key.preset, key.dataset)).get(key, [])


def _texts_of(key: RunKey) -> Mapping[str, Texts]:
    """By a record's checksum."""
    return {
        line["record"]: Texts(line.get("curves"), line.get("arch"))
        for line in _compressed(paths.stored_texts(key.preset, key.dataset)).get(str(key), [])
    }


@lru_cache(maxsize=4096)
def _last(key: RunKey, *files_read: Any) -> Record:
    """Checked once, for as long as the files are what they were: an analysis asks for each record many times."""
    return _parsed(_lines_of(key)[-1], key)


def _parsed(line: Line, key: RunKey) -> Record:
    source = paths.stored_records(key.preset, key.dataset)
    apart = _compressed(paths.stored_arrays(key.preset, key.dataset)).get(str(key), [])
    rest = next((each for each in apart if each["record"] == line.get("checksum")), {})
    parts = {name: line[name] | rest.get(name, {}) for name in APART if isinstance(line.get(name), dict)}
    return record.parsed(line | parts, f"{source}: {key}")


def _records(path: Path) -> Mapping[RunKey, list[Line]]:
    return _read_records(path, _stamp(path))


def _compressed(path: Path) -> Mapping[str, list[Line]]:
    return _read_compressed(_stamped(path))


def _stamped(path: Path) -> tuple[tuple[Path, tuple[int, int]], ...]:
    return tuple((part, _stamp(part)) for part in _parts(path))


def _parts(path: Path) -> list[Path]:
    """Of a compressed file, the first whether or not it exists."""
    return [path, *sorted(path.parent.glob(paths.stored_part(path, "*").name))]


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does; zeros if it does not exist. Raises LayerpruneError if it may not be read."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read: {files.reason_of(error)}") from None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=32)
def _read_records(path: Path, stamp: tuple[int, int]) -> Mapping[RunKey, list[Line]]:
    found: dict[RunKey, list[Line]] = {}
    for line in _lines(path, files.read_text(path, LARGEST)) if any(stamp) else ():
        found.setdefault(_key_of(line, path), []).append(line)
    return found


@lru_cache(maxsize=32)
def _read_compressed(parts: tuple[tuple[Path, tuple[int, int]], ...]) -> Mapping[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for path, stamp in parts:
        for line in _lines(path, _unpacked(path)) if any(stamp) else ():
            _check_fields(line, path)
            found.setdefault(line["run"], []).append(line)
    return found


_FIELDS = {"run": str, "record": str, "curves": str | None, "arch": str | None, "details": dict, "provenance": dict}


def _check_fields(line: Any, path: Path) -> None:
    """A line of a compressed file says whose it is, and each field that it has is of its type."""
    if not isinstance(line, dict) or not {"run", "record"} <= line.keys():
        raise LayerpruneError(f"{path}: a line that names no run")
    odd = next((name for name, kind in _FIELDS.items() if name in line and not isinstance(line[name], kind)), None)
    if odd is not None:
        raise LayerpruneError(f"{path}: {line['run']}: {odd}: of another type")


def _unpacked(path: Path) -> str:
    """The text in a file of xz, of which no more is unpacked than may be in it."""
    unpacker = lzma.LZMADecompressor()
    try:
        content = unpacker.decompress(files.read_regular(path, LARGEST), LARGEST + 1)
        if unpacker.eof:
            return content.decode()
        complaint = "ends too early" if len(content) <= LARGEST else f"holds more than {LARGEST:,} bytes"
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        complaint = str(error)
    except MemoryError:
        complaint = "holds more than there is memory for"
    raise LayerpruneError(f"{path}: damaged: {complaint}")


def _lines(path: Path, text: str) -> list[Line]:
    lines = (found[0] for found in re.finditer("[^\n]+", text))  # one at a time: empty ones may be very many
    return [files.parse_json(line, f"{path}: line {place}") for place, line in enumerate(lines, 1)]


def _key_of(line: Line, path: Path) -> RunKey:
    """The run of a line, which is of the preset and the data set in whose folder the file lies."""
    names = ("preset", "dataset", "arch", "method", "variant", "seed")
    values = [line.get(name) for name in names] if isinstance(line, dict) else []
    try:
        key = RunKey(*_NAMES.validate_python(tuple(values), strict=True))
    except ValidationError:
        raise LayerpruneError(f"{path}: a line that names no run") from None
    if path != paths.stored_records(key.preset, key.dataset):
        raise LayerpruneError(f"{path}: a line of another study: {key}")
    return key


# --- packing ------------------------------------------------------------------------------------------------------


def pack(preset: str, dataset: str, runs: Iterable[RunKey]) -> int:
    """Take runs from their folders into the store of a data set; returns how many records are new in it.

    Raises LayerpruneError for a run whose files are not what its record says.
    """
    texts = {key: _checked_texts(key) for key in runs}
    fresh = {key: record.read(paths.record(key)) for key in texts}
    kept = {key: all_stored(key) for key in keys(preset, dataset)}
    old_texts = {key: _texts_of(key) for key in kept}
    everything = {key: _with_fresh(kept.get(key, []), fresh.get(key)) for key in {*kept, *fresh}}
    everything = _without_orphans(everything)
    lines, arrays, packed = [], [], []
    for key in sorted(everything):
        for made in everything[key]:
            line, rest = _split(made)
            lines.append(line)
            arrays.append({"run": str(key), "record": made.checksum} | rest)
            own = texts[key] if made == fresh.get(key) else old_texts[key].get(made.checksum, Texts(None, None))
            packed.append({"run": str(key), "record": made.checksum, "curves": own.curves, "arch": own.arch})
    _write(
        {paths.stored_arrays(preset, dataset): arrays, paths.stored_texts(preset, dataset): packed},
        {paths.stored_records(preset, dataset): _as_lines(lines).encode()},
    )
    return sum(made not in kept.get(key, []) for key, made in fresh.items())


def _checked_texts(key: RunKey) -> Texts:
    told = record.read(paths.record(key)).files
    found = (_decoded(path, digest) for path, digest in _text_files(key, told))
    return Texts(*found)


def _text_files(key: RunKey, told: record.Files) -> tuple[tuple[Path, str | None], ...]:
    return (paths.curves(key), told.curves), (paths.arch(key), told.arch)


def _with_fresh(kept: list[Record], fresh: Record | None) -> list[Record]:
    """A run's records, the one of the folder last."""
    return kept if fresh is None else [*(each for each in kept if each.checksum != fresh.checksum), fresh]


def _without_orphans(everything: Mapping[RunKey, list[Record]]) -> dict[RunKey, list[Record]]:
    """Of each run the last record, and older ones that a run's last record names as what it started from."""
    last = [records[-1] for records in everything.values()]
    needed = {pair for made in last for pair in made.provenance.parents.items()}
    return {
        key: [each for each in records if each is records[-1] or _is_needed(each, records[-1], needed)]
        for key, records in everything.items()
    }


def _is_needed(made: Record, last: Record, needed: set[tuple[str, str]]) -> bool:
    return made.digest() != last.digest() and (str(made.key), made.digest()) in needed


def _split(made: Record) -> tuple[Line, Line]:
    """A record as a line of records.jsonl, and what of it goes apart."""
    line = made.plain()
    long = {name for name, value in line["details"].items() if len(json.dumps(value)) > LONG}
    apart = {"details": long, "provenance": {"config", "data_checksums"}}  # which are the same in nearly every line
    rest = {field: {name: line[field].pop(name) for name in sorted(names)} for field, names in apart.items()}
    return line, rest


def _as_lines(lines: Iterable[Line]) -> str:
    return "".join(f"{json.dumps(line, sort_keys=True, allow_nan=False)}\n" for line in lines)


def _write(compressed: Mapping[Path, list[Line]], plain: Mapping[Path, bytes]) -> None:
    """All at once: a line of records.jsonl cannot be read without its rest in the other files."""
    parts = {
        paths.stored_part(path, number): content
        for path, lines in compressed.items()
        for number, content in enumerate(_in_parts(lines), 1)
    }
    files.write_together(parts | plain)
    for part in {part for path in compressed for part in _parts(path)} - parts.keys():
        part.unlink(missing_ok=True)


def _in_parts(lines: list[Line]) -> list[bytes]:
    """Compressed, in as few parts as keep each below LARGEST_PART where one line does; long lines are spread evenly."""
    number, contents = 1, [_squeezed(lines)]
    while number < len(lines) and max(map(len, contents)) > LARGEST_PART:
        number += 1
        contents = [_squeezed(lines[first::number]) for first in range(number)]
    return contents


def _squeezed(lines: list[Line]) -> bytes:
    return lzma.compress(_as_lines(lines).encode(), preset=9 | lzma.PRESET_EXTREME)


def unpack(key: RunKey) -> bool:
    """Write a stored run's files to its folder, unless a record is there; returns whether that was done."""
    made = stored(key)
    if made is None or paths.record(key).is_file():
        return False
    content = {paths.curves(key): curves(key), paths.arch(key): _text(key, "arch")}
    if (path := weights(key)) is not None:
        found = path.read_bytes()
        files.write_atomically(paths.weights(key), lambda stream: stream.write(found))
    for path, text in content.items():
        if text is not None:
            files.write_text(path, text)
    record.write(paths.record(key), made)
    return True
