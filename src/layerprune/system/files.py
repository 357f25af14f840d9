"""Files appear whole or not at all: everything is written beside its target, flushed, then renamed over it."""

import ast
import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from layerprune.errors import LayerpruneError

_FULL_OR_FORBIDDEN = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a parent of it is a file, not a folder",
    errno.EFBIG: "the file would exceed the size limit",
}

LARGEST_TEXT = 2**26
"""Largest text file, in bytes, that is read whole unless the reader says otherwise."""
LARGEST_WEIGHTS = 2**32
"""Largest file of weights or states, in bytes: a thousand million numbers."""


def write_atomically(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write to a temporary file beside `path`, flush it to disk, and rename it to `path`.

    Raises LayerpruneError when the disk is full or the folder cannot be written; nothing half-written stays. What is
    there already is replaced if it is a regular file, and nothing else: no folder, pipe or device.
    """
    with _beside(path, fill) as temporary:
        os.replace(temporary, path)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: every one is on the disk before the first takes its place, so that a full disk
    or an interruption leaves all of them as they were."""
    with contextlib.ExitStack() as held:
        ready = {path: held.enter_context(_beside(path, _writer_of(each))) for path, each in contents.items()}
        for path, temporary in ready.items():
            os.replace(temporary, path)


def _writer_of(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda stream: stream.write(content)


@contextmanager
def _beside(path: Path, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """A temporary file beside `path`, written and flushed to disk; gone where it is not renamed."""
    _check_target(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be deleted either
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise LayerpruneError(f"{path}: cannot write: {reason_of(error)}") from error


def _check_target(path: Path) -> None:
    try:
        if not path.name:
            raise LayerpruneError(f"'{path}': cannot write: not the name of a file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise LayerpruneError(f"{path}: cannot write: what is there is not a regular file")
    except FileNotFoundError:  # nothing yet, or another process has just taken it away
        return
    except OSError as error:  # a folder on the way may not be entered
        raise LayerpruneError(f"{path}: cannot write: {reason_of(error)}") from None


def reason_of(error: OSError) -> str:
    """Why a file cannot be read or written, in one line."""
    return _FULL_OR_FORBIDDEN.get(error.errno or 0, error.strerror or " ".join(str(error).split()))


def clear_unfinished(folder: Path) -> None:
    """Delete what killed writers left in a folder; no other process may be writing there."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; the system frees it when the process dies. Raises LayerpruneError: `busy` where it is held."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=0).acquire()
    except filelock.Timeout:
        raise LayerpruneError(f"{path}: {busy}") from None
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot write: {error.strerror}") from None
    with lock:
        yield


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def check_writable(folder: Path) -> None:
    """Raises LayerpruneError for a folder in which no file can be made."""
    probe = folder / ".writable"
    write_text(probe, "")
    probe.unlink(missing_ok=True)  # another process may probe the same folder


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, a final newline, no NaN (which JSON does not know)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def regular(path: Path) -> BinaryIO:
    """Open a file for reading, but never a pipe or a device, which might never end. Raises OSError for these too."""
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 -- the caller closes it
    except ValueError as error:  # a name that no file can have, with a zero byte
        raise OSError(str(error)) from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError("not a regular file")
    return stream


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """The same as a context. Raises LayerpruneError naming the file, on opening and while it is read."""
    try:
        with regular(path) as stream:
            yield stream
    except FileNotFoundError:
        raise LayerpruneError(f"{path}: no such file") from None
    except OSError as error:
        raise LayerpruneError(f"{path}: cannot read: {error.strerror or error}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe that nobody writes to without waiting for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_regular(path: Path, most: int | None = None) -> bytes:
    """All of a file of at most `most` bytes; raises LayerpruneError as open_regular does, and for a larger one."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if most is not None and size > most:
            raise LayerpruneError(f"{path}: too large: {size:,} bytes instead of at most {most:,}")
        try:
            return stream.read(size)
        except MemoryError:
            raise LayerpruneError(f"{path}: not enough memory for its {size:,} bytes") from None


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """A text in UTF-8, read as read_regular does; raises LayerpruneError for bytes that are no such text."""
    try:
        return read_regular(path, most).decode()
    except UnicodeDecodeError as error:
        raise LayerpruneError(f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}") from None


def sha256(data: bytes) -> str:
    """Digest in lowercase hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def checked_sha256(data: bytes, expected: str | None, path: Path) -> str:
    """The digest of `data`; raises LayerpruneError naming `path` unless it is as expected (None: any)."""
    found = sha256(data)
    if expected is not None and found != expected:
        raise LayerpruneError(f"{path}: altered data: expected SHA-256 {expected}, found {found}")
    return found


def sha256_of(path: Path) -> str:
    """Digest of a file. Raises LayerpruneError naming the file when it cannot be read."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values, each key once."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key '{twice}' appears twice")
    return content


def parse_json(text: str, source: object) -> Any:
    """JSON without a key twice; raise LayerpruneError naming the source when it is malformed."""
    try:
        return json.loads(text, object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError) as error:
        raise LayerpruneError(f"{source}: not readable as JSON: {error}") from None


def read_json(path: Path) -> Any:
    """Read JSON; raise LayerpruneError naming the file when it is missing or malformed."""
    return parse_json(read_text(path), path)


_ONE_AT_A_TIME = threading.Lock()
"""Held while Python is parsed: in CPython 3.11 two threads that do so disturb each other (bpo-106905)."""


def _parsed(path: Path) -> ast.Module:
    text = path.read_bytes()
    try:
        with _ONE_AT_A_TIME:
            return ast.parse(text)
    except SyntaxError as error:
        raise LayerpruneError(syntax_problem(error, path)) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte; expressions nested too deeply
        raise LayerpruneError(f"{path}: not valid Python: {error or 'nested too deeply'}") from None


def syntax_problem(error: SyntaxError, source: object) -> str:
    """Where a file is not valid Python, and why, in one line."""
    where = "" if error.lineno is None else f"line {error.lineno}: "
    return f"{source}: {where}not valid Python: {error.msg}"


@cache
def docstring_in(path: Path) -> str:
    """The docstring of a module, read without importing it; empty if there is none.

    Raises LayerpruneError naming file and line if it is not valid Python.
    """
    return ast.get_docstring(_parsed(path)) or ""


@cache
def constant_in(path: Path, name: str) -> Any:
    """The value of a literal constant at the top of a module, read without importing it; None if there is none.

    Raises LayerpruneError naming the file for a value that is no literal, and for what is not valid Python.
    """
    for statement in _parsed(path).body:
        if name in _names_given_by(statement) and statement.value is not None:
            try:
                return ast.literal_eval(statement.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                written = ast.unparse(statement.value)
                raise LayerpruneError(f"{path}: {name} must be written out, as in {name} = 1, not {written}") from None
    return None


def _names_given_by(statement: ast.stmt) -> list[str]:
    """The names that a statement gives a value to, with or without a type."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]
