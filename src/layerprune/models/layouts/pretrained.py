"""Weights from a file in place of training: what this package saved, or a checkpoint under another project's names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from layerprune.errors import LayerpruneError
from layerprune.models import saving
from layerprune.models.layouts.akamaster import load_akamaster
from layerprune.models.layouts.torchvision import load_torchvision
from layerprune.models.sections import SectionedNetwork
from layerprune.provenance import arch_file

_LAYOUTS: dict[str, Callable[[SectionedNetwork, Mapping[str, Any]], None]] = {
    "imagenet_resnet": load_torchvision,
    "resnet": load_akamaster,
}
"""Module of an architecture -> the layout that its published checkpoints have."""


def load_pretrained(network: SectionedNetwork, path: Path) -> None:
    """Fill a whole network with the weights of a file; no pickled code is run.

    Raises LayerpruneError naming the file, where it is missing, damaged or does not fit; then nothing changes.
    """
    content = saving.read_tensors(path)
    if not isinstance(content, Mapping):
        raise LayerpruneError(f"{path}: holds no weights by name")
    layout = _LAYOUTS.get(arch_file(network.arch).stem)
    if layout is None or set(content) == set(network.state_dict()):
        saving.load_weights(network, path)
        return
    try:
        layout(network, content)
    except LayerpruneError as error:
        raise LayerpruneError(f"{path}: {error}") from None
