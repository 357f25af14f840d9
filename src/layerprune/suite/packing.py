"""What of a preset's results is committed: its runs in the store, and the weights of its headline networks.

Headline networks are dense and gated with their default settings, of each network the first seed. Their weights are
stored in half precision, all or as many as leave the test accuracy as it is. Imports no torch.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, half_precision, store
from layerprune.suite.config import Preset
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

LARGEST_FILE = 1_000_000
"""Largest size of a file in git, in bytes, except weights."""
MOST_BYTES = 7_000_000
"""Largest total size of all stored weights: a checkout should stay small."""
Judge = Callable[[RunKey], Callable[[Path], float]]
"""Of a run: what measures the test accuracy of its network with a file's weights."""


def pack(preset_name: str, datasets: Sequence[str], weights: bool, judge: Judge | None = None) -> Iterator[str]:
    """Pack every run that has a folder with a current record; a line for each data set, for stale runs, and for weights
    that are left out, or stay in single precision in spite of the judge. Without a judge all stay so.

    Raises LayerpruneError for a run whose files are not what its record says: nothing of its data set is packed then.
    """
    preset = config.load_preset(preset_name)
    for dataset in datasets:
        with files.exclusive(
            paths.pack_lock(preset_name, dataset), "results of this data set are being packed by another process"
        ):
            yield from _pack_runs(preset, preset_name, dataset)
            if weights:
                chosen = headline(preset, preset_name, dataset)
                yield from _pack_weights([key for key in chosen if _staleness(preset, key) is None], judge)


def _pack_runs(preset: Preset, preset_name: str, dataset: str) -> Iterator[str]:
    """Stale folders are left out: one that is older than the store would take the place of what is right."""
    stale = {key: _staleness(preset, key) for key in in_folders(preset_name, dataset)}
    runs = [key for key, why in stale.items() if why is None]
    yield from (f"{key}: left out: {why}" for key, why in stale.items() if why is not None)
    if runs:
        new = store.pack(preset_name, dataset, runs)
        yield f"{paths.stored_records(preset_name, dataset)}: {len(runs)} runs packed, {new} of them new"
        yield from _too_large(preset_name, dataset)


def _staleness(preset: Preset, key: RunKey) -> str | None:
    made = store.find(key)
    try:
        return current.staleness(preset, made)
    except LayerpruneError as error:  # of a run that the preset does not have
        return str(error)


def _too_large(preset_name: str, dataset: str) -> Iterator[str]:
    for path in (paths.stored_records, paths.stored_arrays, paths.stored_texts):
        size = path(preset_name, dataset).stat().st_size
        if size > LARGEST_FILE:
            yield f"{path(preset_name, dataset)}: {size / 1e6:.2f} MB, more than git should hold in one file"


def in_folders(preset_name: str, dataset: str | None = None) -> Iterator[RunKey]:
    """Runs whose folder holds a record, in the order of their names."""
    name = paths.record_in(Path()).name
    for path in sorted(paths.results(preset_name).glob(f"{dataset or '*'}/*/*/*/seed*/{name}")):
        with suppress(ValueError):
            yield paths.parse_run_folder(path.parent)


def headline(preset: Preset, preset_name: str, dataset: str) -> list[RunKey]:
    """Of every network dense and gated with their default settings, each the first seed with weights, if a folder holds
    them.
    """
    planned = config.plan(preset, preset_name, dataset)
    chosen = [key for key in planned if key.method in ("dense", "gated") and key.variant == "default"]
    there = [key for key in chosen if any(path.is_file() for path in (paths.weights(key), *_forms(key)))]
    first = {(key.arch, key.method): key for key in sorted(there, key=lambda key: -key.seed)}
    return [key for key in first.values() if paths.weights(key).is_file()]


def _pack_weights(chosen: Sequence[RunKey], judge: Judge | None) -> Iterator[str]:
    """The smallest files first, so that as many networks as possible find room."""
    for key in sorted(chosen, key=lambda key: paths.weights(key).stat().st_size):
        path, content = paths.stored_weights(key), store.read_checked(paths.weights(key), store.find(key).files.weights)
        if judge is not None:
            try:
                path, content = paths.half_weights(key), _rounded(key, content, judge)
            except LayerpruneError as error:
                yield f"{paths.weights(key)}: in single precision: {error}"
        others = [each for each in paths.all_stored_weights() if each not in _forms(key)]
        if len(content) + sum(each.stat().st_size for each in others) > MOST_BYTES:
            yield f"{paths.weights(key)}: left out: all weights would exceed {MOST_BYTES // 1_000_000} MB"
            continue
        files.write_atomically(path, lambda stream, content=content: stream.write(content))
        for each in _forms(key) - {path}:
            each.unlink(missing_ok=True)


def _forms(key: RunKey) -> set[Path]:
    return {paths.stored_weights(key), paths.half_weights(key)}


def _rounded(key: RunKey, content: bytes, judge: Judge) -> bytes:
    """A run's weights in half precision, but for those matrices whose rounding would change its test accuracy.

    Raises LayerpruneError where that is so of all.
    """
    source, accuracy = paths.weights(key), judge(key)
    wanted = accuracy(source)
    whole = half_precision.rounded(content, source)
    if _measured(whole, accuracy) == wanted:
        return whole
    kept, half = half_precision.matrices(content, source), None
    for name in tuple(kept):  # the largest first, so that what stays in single precision is small
        rest = [each for each in kept if each != name]
        trial = half_precision.rounded(content, source, rest)
        if _measured(trial, accuracy) == wanted:
            kept, half = rest, trial
    if half is None:
        raise LayerpruneError("half precision would change its test accuracy")
    return half


def _measured(content: bytes, accuracy: Callable[[Path], float]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.safetensors"
        files.write_atomically(trial, lambda stream: stream.write(content))
        return accuracy(trial)
