"""Weights from a file in place of training: what this package saved, or a checkpoint under another project's names.

torchvision's ResNets, with which `imagenet-resnet-*` agree weight by weight:
    conv1, bn1, layer<stage>.<place>.{conv1, bn1, conv2, bn2[, conv3, bn3][, downsample.0, downsample.1]}, fc
akamaster/pytorch_resnet_cifar10's, CIFAR ResNets with option A, up to depth 1202:
    conv1, bn1, layer<stage>.<place>.{conv1, bn1, conv2, bn2}, linear
Channels have the same order in both, including the zero channels of the shortcuts: only names differ.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layerprune.core.networks import arch_file, storage
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError

Names = Mapping[str, str]
"""Their name of every weight, by its name here, in the order of the network's."""

_COUNTER = ".num_batches_tracked"
"""Absent from files written before torch 0.4.1, and irrelevant here."""


def load_pretrained(network: SectionedNetwork, path: Path) -> None:
    """Fill a whole network with the weights of a file; no pickled code is run.

    Raises LayerpruneError naming the file, where it is missing, damaged or does not fit; then nothing changes.
    """
    content = storage.read_weights(path)
    if not isinstance(content, Mapping):
        raise LayerpruneError(f"{path}: holds no weights by name")
    load = _LAYOUTS.get(arch_file(network.arch).stem)
    if load is None or set(content) == set(network.state_dict()):
        storage.load_weights(network, path)
        return
    try:
        load(network, content)
    except LayerpruneError as error:
        raise LayerpruneError(f"{path}: {error}") from None


# --- torchvision ----------------------------------------------------------------------------------------------

_TORCHVISION_ENDS = {"stem.0": "conv1", "stem.1": "bn1", "head.2": "fc"}
_TORCHVISION_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def to_torchvision(network: SectionedNetwork) -> dict[str, Tensor]:
    """A whole ResNet's weights under torchvision's names. Raises LayerpruneError for a network without such names."""
    return _renamed(network, _torchvision_names(network))


def load_torchvision(network: SectionedNetwork, checkpoint: Mapping[str, Any]) -> None:
    """Fill a ResNet with a state dict of torchvision's, or with a checkpoint of its reference scripts' kind.

    Raises LayerpruneError for a network that has no such names, and for weights that do not fit; then nothing changes.
    """
    model = checkpoint.get("model")  # under which torchvision's references/classification keeps them
    _load_renamed(network, _torchvision_names(network), model if isinstance(model, Mapping) else checkpoint)


def _torchvision_names(network: SectionedNetwork) -> Names:
    sections = enumerate(network.chain)
    layers = _TORCHVISION_ENDS | {
        ours: theirs for index, section in sections for ours, theirs in _torchvision_layers(index, section)
    }
    return _names_by_layer(network, layers, "torchvision", "ImageNet ResNets")


def _torchvision_layers(index: int, section: Section) -> Iterator[tuple[str, str]]:
    """Layers with weights of one section: their names here and there."""
    theirs = section.name.replace("stage", "layer")
    count = len(section.branch) if isinstance(section.branch, nn.Sequential) else 0
    for place, name in _TORCHVISION_BRANCH.items():
        if int(place) < count:
            yield f"chain.{index}.branch.{place}", f"{theirs}.{name}"
    if not section.preserves_shape:
        for place in ("0", "1"):
            yield f"chain.{index}.shortcut.{place}", f"{theirs}.downsample.{place}"


# --- akamaster ------------------------------------------------------------------------------------------------

_AKAMASTER_ENDS = {"stem.0": "conv1", "stem.1": "bn1", "head.2": "linear"}
_AKAMASTER_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}


def to_akamaster(network: SectionedNetwork) -> dict[str, Tensor]:
    """A whole ResNet's weights under akamaster's names. Raises LayerpruneError for a network that has no such names."""
    return _renamed(network, _akamaster_names(network))


def load_akamaster(network: SectionedNetwork, checkpoint: Mapping[str, Any]) -> None:
    """Fill a ResNet with a state dict of akamaster's, or with a checkpoint file's content.

    Such a file holds {'state_dict': {...}}, every name behind 'module.' (DataParallel).
    Raises LayerpruneError for a network that has no such names, and for weights that do not fit; then nothing changes.
    """
    _load_renamed(network, _akamaster_names(network), checkpoint)


def _akamaster_names(network: SectionedNetwork) -> Names:
    if network.arch.startswith("resnet-") and any(".shortcut." in name for name in network.state_dict()):
        raise LayerpruneError(f"{network.arch}: akamaster has no names for option B, whose shortcuts have weights")
    layers = _AKAMASTER_ENDS | {
        f"chain.{index}.branch.{layer}": f"{section.name.replace('stage', 'layer')}.{name}"
        for index, section in enumerate(network.chain)
        for layer, name in _AKAMASTER_BRANCH.items()
    }
    return _names_by_layer(network, layers, "akamaster", "CIFAR ResNets with post-activation")


# --- names ----------------------------------------------------------------------------------------------------


def _names_by_layer(network: SectionedNetwork, layers: Mapping[str, str], theirs: str, covers: str) -> Names:
    """Names of every weight from those of the layers that hold them.

    Raises LayerpruneError for a pruned network, and for one that has other layers than those named; `theirs` tells it
    whose names they are, `covers` of which networks.
    """
    gone = [section.name for section in network.chain if not section.alive]
    if gone:
        raise LayerpruneError(f"{network.arch}: {theirs} has no names for a pruned network ({gone[0]} went)")
    split = [name.rpartition(".") for name in network.state_dict()]
    if {layer for layer, _, _ in split} != set(layers):
        raise LayerpruneError(f"{network.arch}: {theirs} has names for {covers} only")
    return {f"{layer}.{number}": f"{layers[layer]}.{number}" for layer, _, number in split}


def _renamed(network: SectionedNetwork, names: Names) -> dict[str, Tensor]:
    """The network's weights under their names."""
    state = network.state_dict()
    return {theirs: state[ours] for ours, theirs in names.items()}


def _load_renamed(network: SectionedNetwork, names: Names, checkpoint: Mapping[str, Any]) -> None:
    """Fill a network with a state dict under their names, or with the content of a checkpoint file that holds one.

    Raises LayerpruneError for weights that do not fit; then nothing changes.
    """
    own, state = network.state_dict(), _state_dict(checkpoint)
    fallback = {theirs: own[ours] for ours, theirs in names.items() if theirs.endswith(_COUNTER)}
    state = fallback | state
    missing = [theirs for theirs in names.values() if theirs not in state]
    unexpected = sorted(map(str, set(state) - set(names.values())))
    for kind, odd in (("lacks", missing), ("has, unexpectedly,", unexpected)):
        if odd:
            raise LayerpruneError(f"{network.arch}: the checkpoint {kind} '{odd[0]}'{_and_more(odd)}")
    for ours, theirs in names.items():
        if (shape := getattr(state[theirs], "shape", None)) != own[ours].shape:
            told = "no tensor" if shape is None else f"of shape {list(shape)}"
            raise LayerpruneError(f"{network.arch}: '{theirs}' is {told}, not of shape {list(own[ours].shape)}")
    network.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})


def _state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping):
        raise LayerpruneError("the checkpoint's 'state_dict' holds no weights by name")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


_LAYOUTS: dict[str, Callable[[SectionedNetwork, Mapping[str, Any]], None]] = {
    "imagenet_resnet": load_torchvision,
    "resnet": load_akamaster,
}
"""Module of an architecture -> how its published checkpoints are loaded."""
