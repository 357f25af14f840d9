"""Checkpoints of akamaster/pytorch_resnet_cifar10: CIFAR ResNets with option A, up to depth 1202.

    conv1, bn1, layer<stage>.<place>.{conv1, bn1, conv2, bn2}, linear
The files hold {'state_dict': {...}}, every name behind 'module.' (DataParallel). Channels have the same order here and
there, those of the zeros in the shortcuts too: only names change.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from layerprune.core.networks.layouts.names import Names, load_renamed, names_by_layer, renamed
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError

_ENDS = {"stem.0": "conv1", "stem.1": "bn1", "head.2": "linear"}
_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}


def to_akamaster(network: SectionedNetwork) -> dict[str, Tensor]:
    """A whole ResNet's weights under akamaster's names. Raises LayerpruneError for a network that has no such names."""
    return renamed(network, _names(network))


def load_akamaster(network: SectionedNetwork, checkpoint: Mapping[str, Any]) -> None:
    """Fill a ResNet with a state dict of akamaster's, or with a checkpoint file's content.

    Raises LayerpruneError for a network that has no such names, and for weights that do not fit; then nothing changes.
    """
    load_renamed(network, _names(network), checkpoint)


def _names(network: SectionedNetwork) -> Names:
    if network.arch.startswith("resnet-") and any(".shortcut." in name for name in network.state_dict()):
        raise LayerpruneError(f"{network.arch}: akamaster has no names for option B, whose shortcuts have weights")
    layers = _ENDS | {
        f"chain.{index}.branch.{layer}": f"{section.name.replace('stage', 'layer')}.{name}"
        for index, section in enumerate(network.chain)
        for layer, name in _BRANCH.items()
    }
    return names_by_layer(network, layers, "akamaster", "CIFAR ResNets with post-activation")
