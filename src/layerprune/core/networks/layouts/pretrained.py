"""Weights from a file in place of training: what this package saved, or a checkpoint under another project's names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from layerprune.core.networks import arch_file, storage
from layerprune.core.networks.layouts.akamaster import load_akamaster
from layerprune.core.networks.layouts.torchvision import load_torchvision
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError

_LAYOUTS: dict[str, Callable[[SectionedNetwork, Mapping[str, Any]], None]] = {
    "imagenet_resnet": load_torchvision,
    "resnet": load_akamaster,
}
"""Module of an architecture -> the layout that its published checkpoints have."""


def load_pretrained(network: SectionedNetwork, path: Path) -> None:
    """Fill a whole network with the weights of a file; no pickled code is run.

    Raises LayerpruneError naming the file, where it is missing, damaged or does not fit; then nothing changes.
    """
    content = storage.read_weights(path)
    if not isinstance(content, Mapping):
        raise LayerpruneError(f"{path}: holds no weights by name")
    layout = _LAYOUTS.get(arch_file(network.arch).stem)
    if layout is None or set(content) == set(network.state_dict()):
        storage.load_weights(network, path)
        return
    try:
        layout(network, content)
    except LayerpruneError as error:
        raise LayerpruneError(f"{path}: {error}") from None
