"""A run's folder by its path, wherever it was moved: its network, checked against the record that lies beside it."""

from pathlib import Path

from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.suite import record, store
from layerprune.suite.record import Files
from layerprune.system import files, paths


def network_in(folder: Path) -> SectionedNetwork:
    """The network that is left of a run, with its weights.

    Raises LayerpruneError for a file that is missing or damaged, or is not the one that the record was written with.
    """
    network = described_in(folder)
    path = paths.weights_in(folder)
    store.read_checked(path, _told(folder).weights)
    storage.load_weights(network, path)
    return network


def described_in(folder: Path) -> SectionedNetwork:
    """The same without its weights: arch.json suffices."""
    path = paths.arch_in(folder)
    content = store.read_checked(path, _told(folder).arch)
    return storage.described(files.parse_json(content.decode(errors="replace"), path), path)


def _told(folder: Path) -> Files:
    """What the record beside them says of the files; nothing where there is no record."""
    path = paths.record_in(folder)
    return record.read(path).files if path.is_file() else Files()
