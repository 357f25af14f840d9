"""`layerprune results add`: merge an archive's runs into this checkout's folders, replacing nothing.

The whole archive is checked before anything is written. Then each run is added, found to be present already, or left
out with the reason: its settings, versions or parents differ from those here, or its record differs from the one here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, store
from layerprune.suite.campaign import reading
from layerprune.suite.campaign.reading import Contents
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey


@dataclass(frozen=True)
class Verdict:
    """What became of a run of the archive, in one line."""

    taken: bool
    refused: bool
    line: str


def add(path: Path) -> Iterator[Verdict]:
    """Merge an archive. Raises LayerpruneError, before anything is written, for one that is damaged or no archive."""
    contents = reading.read(path)
    for key in _parents_first(contents):
        yield _record_verdict(contents, key)
    for key, state in contents.states.items():
        yield _state_verdict(key, state)


def _parents_first(contents: Contents) -> list[RunKey]:
    """A run is compared with the parents that are here, so these are merged before it.

    Made-up records may start from each other, in circles and in chains of any length.
    """
    named = {str(key): key for key in contents.records}
    ordered: dict[RunKey, None] = {}
    begun: set[RunKey] = set()
    for first in contents.records:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            parents = contents.records[key].provenance.parents
            later = [] if key in begun else [named[name] for name in parents if name in named]
            begun.add(key)
            waiting += [each for each in later if each not in begun]
            if key == waiting[-1]:
                ordered[waiting.pop()] = None
    return list(ordered)


# --- records ------------------------------------------------------------------------------------------------------


def _record_verdict(contents: Contents, key: RunKey) -> Verdict:
    made, has_weights = contents.records[key], paths.weights(key) in contents.files
    try:
        if reason := _stale(made):
            return _refused(key, reason)
        with files.exclusive(paths.lock(key), "this run is being made by another process"):
            here = store.find(key)
            if here is None or not (paths.record(key).is_file() or _is_current(here)):
                return _taken(contents, key)
            if here.digest() != made.digest():
                return _refused(key, f"conflict: another record is here, of {here.finished_at}; it stays as it is")
            if has_weights and _lacks_weights(key, here, made):
                return _taken(contents, key)
    except LayerpruneError as error:
        return _refused(key, str(error))
    return Verdict(False, False, f"{key}: is here already")


def _stale(made: Record) -> str | None:
    """How a record differs from what this checkout would make."""
    return current.staleness(config.load_preset(made.preset), made)


def _is_current(made: Record) -> bool:
    return current.is_current(config.load_preset(made.preset), made)


def _lacks_weights(key: RunKey, here: Record, made: Record) -> bool:
    """Whether the archive has weights that are missing here. Those of a run made twice may differ in their bytes."""
    fits = not paths.record(key).is_file() or here.checksum == made.checksum
    return fits and not paths.weights(key).exists() and store.weights(key) is None


def _taken(contents: Contents, key: RunKey) -> Verdict:
    """Write a run's files, the record last: a run is there once all of it is."""
    for place in (paths.weights, paths.arch, paths.curves, paths.record):
        content = contents.files.get(place(key))
        if content is not None:
            _write(place(key), content)
    paths.state(key).unlink(missing_ok=True)
    weights = "" if paths.weights(key) in contents.files else ", without weights"
    return Verdict(True, False, f"{key}: added{weights}")


def _refused(key: RunKey, reason: str) -> Verdict:
    return Verdict(False, True, f"{key}: not added: {reason}")


# --- states -------------------------------------------------------------------------------------------------------


def _state_verdict(key: RunKey, state: bytes) -> Verdict:
    try:
        config.resolve(config.load_preset(key.preset), key)
        with files.exclusive(paths.lock(key), "this run is being made by another process"):
            if store.exists(key):
                return Verdict(False, False, f"{key}: its record is here, its state is not needed")
            if paths.state(key).exists():
                return Verdict(False, False, f"{key}: a state is here already")
            _write(paths.state(key), state)
    except LayerpruneError as error:
        return _refused(key, str(error))
    return Verdict(True, False, f"{key}: state added, the run can be taken up")


def _write(path: Path, content: bytes) -> None:
    files.write_atomically(path, lambda stream: stream.write(content))
