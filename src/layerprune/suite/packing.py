"""What of a preset's results is committed: its runs in the store, and the weights of its headline networks.

Headline networks are dense and gated with their default settings, of each network the first seed. Imports no torch.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from layerprune.suite import config, store
from layerprune.suite.config import Preset
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

LARGEST_FILE = 1_000_000
"""Largest size of a file in git, in bytes, except weights."""
MOST_BYTES = 9_500_000
"""Largest total size of a preset's weights: a checkout should stay small."""


def pack(preset_name: str, datasets: Sequence[str], weights: bool) -> Iterator[str]:
    """Pack every run that has a folder with a record; a line for each data set, and for weights that are left out.

    Raises LayerpruneError for a run whose files are not what its record says: nothing of its data set is packed then.
    """
    preset = config.load_preset(preset_name)
    for dataset in datasets:
        runs = list(in_folders(preset_name, dataset))
        if runs:
            new = store.pack(preset_name, dataset, runs)
            yield f"{paths.stored_records(preset_name, dataset)}: {len(runs)} runs packed, {new} of them new"
            yield from _too_large(preset_name, dataset)
        if weights:
            yield from _pack_weights(preset, preset_name, dataset)


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
    """Of every network dense and gated with their default settings, each the first seed whose folder holds weights."""
    planned = config.plan(preset, preset_name, dataset)
    chosen = [key for key in planned if key.method in ("dense", "gated") and key.variant == "default"]
    there = [key for key in chosen if paths.weights(key).is_file()]
    return list({(key.arch, key.method): key for key in sorted(there, key=lambda key: -key.seed)}.values())


def _pack_weights(preset: Preset, preset_name: str, dataset: str) -> Iterator[str]:
    """The smallest files first, so that as many networks as possible find room."""
    for key in sorted(headline(preset, preset_name, dataset), key=lambda key: paths.weights(key).stat().st_size):
        size = paths.weights(key).stat().st_size
        stored = [path for path in paths.results(preset_name).glob("*/weights/*") if path != paths.stored_weights(key)]
        if size + sum(path.stat().st_size for path in stored) > MOST_BYTES:
            yield f"{paths.weights(key)}: left out: all weights would exceed {MOST_BYTES / 1e6} MB"
            continue
        content = store.read_checked(paths.weights(key), store.find(key).files.weights)
        files.write_atomically(paths.stored_weights(key), lambda stream, content=content: stream.write(content))
