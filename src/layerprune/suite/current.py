"""Is a run's record what today's code, settings and data would give? Imports no torch.

Current means: the same versions of what decides its numbers, the same settings, the data that are staged (where none
are: those of the store), parents whose records are the ones it names, and files that are what the record says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from layerprune.core.version import versions_of
from layerprune.errors import LayerpruneError
from layerprune.suite import config, store
from layerprune.suite.config import Preset, RunSettings
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

WEIGHTS = "weights/"
"""Beginning of the names of checksums that are of files of weights, not of data."""


@dataclass(frozen=True)
class Difference:
    """One way in which a record is not current; `kind` is one of analysis.verify.KINDS."""

    kind: str
    message: str


def differences(preset: Preset, made: Record, settings: RunSettings | None = None) -> Iterator[Difference]:
    """How a record is not current; nothing for one that is. `settings` where they are not the preset's own."""
    yield from _of_code(made)
    yield from _of_settings(made, settings or config.resolve(preset, made.key))
    yield from _of_data(made, staged(made.key))
    yield from _of_parents(preset, made)


def staleness(preset: Preset, made: Record) -> str | None:
    """The first way in which a record is not current, in one line; None for one that is."""
    found = next(differences(preset, made), None)
    return None if found is None else f"{found.kind}: {found.message}"


def is_current(preset: Preset, made: Record, settings: RunSettings | None = None) -> bool:
    """Whether a record is current; whether its files are intact is not looked at."""
    return next(differences(preset, made, settings), None) is None


def is_stored(preset: Preset, key: RunKey) -> bool:
    """Whether a run needs no folder: its record is in the store, current, and no folder holds another."""
    made = store.stored(key)
    if made is None or (paths.record(key).is_file() and store.find(key).checksum != made.checksum):
        return False
    return is_current(preset, made)


def damage(key: RunKey, made: Record, weights: bool = True) -> str | None:
    """What is wrong with the files in a run's folder by its record, in one line; None where they are whole.

    Without `weights` the file of weights is not looked at.
    """
    try:
        for path in (paths.arch, paths.curves, *([paths.weights] if weights else [])):
            if path(key).exists() or getattr(made.files, path.__name__) is not None:
                store.read_checked(path(key), getattr(made.files, path.__name__))
    except LayerpruneError as error:
        return str(error)
    return None


def _of_code(made: Record) -> Iterator[Difference]:
    now = versions_of(made.dataset, made.arch, made.method)
    if made.provenance.versions != now:
        yield Difference("stale-code", f"versions {made.provenance.versions}, now {now}")


def _of_settings(made: Record, settings: RunSettings) -> Iterator[Difference]:
    if made.provenance.config_digest != settings.digest():
        changed = _changed(made.provenance.config, settings.model_dump(mode="json"))
        yield Difference("stale-config", f"settings differ: {', '.join(changed) or 'digest only'}")


def _changed(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    names = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += _changed(old, new, f"{prefix}{name}.")
        elif old != new:
            names.append(f"{prefix}{name} ({old} -> {new})")
    return names


# --- data ---------------------------------------------------------------------------------------------------------


def staged(key: RunKey) -> dict:
    """The manifest of a run's data; empty where nothing was staged."""
    path = paths.data_manifest(key.preset, key.dataset)
    manifest = files.read_json(path) if path.is_file() else {}
    checksums = manifest.get("checksums", {}) if isinstance(manifest, dict) else None
    if not isinstance(checksums, dict) or not all(isinstance(each, str) for each in checksums.values()):
        raise LayerpruneError(f"{path}: not a manifest of data; run: layerprune stage {key.dataset}")
    return manifest


def of_data(checksums: Mapping[str, str]) -> dict[str, str]:
    """Those checksums of a record that are of data."""
    return {name: digest for name, digest in checksums.items() if not name.startswith(WEIGHTS)}


def _of_data(made: Record, manifest: dict) -> Iterator[Difference]:
    source, now, whose = manifest.get("source", made.data_source), manifest.get("checksums"), "staged"
    if made.data_source != source:
        yield Difference("stale-data", f"made from {made.data_source}, {source} is staged")
        return
    recorded = of_data(made.provenance.data_checksums)
    if now is None:
        now, whose = _of_the_store(made), "in the store"
    if now is not None and recorded != now:
        name = min(name for name in recorded.keys() | now.keys() if recorded.get(name) != now.get(name))
        told = [(each.get(name) or "none")[:16] for each in (recorded, now)]
        yield Difference("stale-data", f"{name}: SHA-256 {told[0]}, {whose} {told[1]}")


def _of_the_store(made: Record) -> dict[str, str] | None:
    """Checksums of the data that the store's runs were made from; None where it has none."""
    first = store.first(made.preset, made.dataset)
    return None if first is None else of_data(first.provenance.data_checksums)


# --- parents ------------------------------------------------------------------------------------------------------


def _of_parents(preset: Preset, made: Record) -> Iterator[Difference]:
    recorded = made.provenance.parents
    needed = {str(parent): parent for parent in config.prerequisites(preset, made.key)}
    for name, digest in recorded.items():
        if name not in needed:
            yield Difference("stale-parent", f"{name} is not what the preset starts it from")
        elif digest not in (known := store.digests(needed[name])):
            told = f"has changed since (digest {digest}, now {', '.join(sorted(known))})" if known else "has no record"
            yield Difference("stale-parent", f"{name} {told}")
    for name in sorted(needed.keys() - recorded.keys()):
        yield Difference("stale-parent", f"does not name {name}, from which the preset starts it")
