"""Checkpoints of akamaster/pytorch_resnet_cifar10: CIFAR ResNets with option A, up to depth 1202.

    conv1, bn1, layer<stage>.<place>.{conv1, bn1, conv2, bn2}, linear
The files hold {'state_dict': {...}}, every name behind 'module.' (DataParallel). Channels have the same order here and
there, those of the zeros in the shortcuts too: only names change.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from layerprune.errors import LayerpruneError
from layerprune.models.sections import SectionedNetwork

_ENDS = {"stem.0": "conv1", "stem.1": "bn1", "head.2": "linear"}
_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}
_COUNTER = ".num_batches_tracked"
"""Absent from files written before torch 0.4.1; it decides nothing here."""


def to_akamaster(network: SectionedNetwork) -> dict[str, Tensor]:
    """A whole ResNet's weights under akamaster's names. Raises LayerpruneError for a network that has no such names."""
    names, state = _names(network), network.state_dict()
    return {theirs: state[ours] for ours, theirs in names.items()}


def load_akamaster(network: SectionedNetwork, checkpoint: Mapping[str, Any]) -> None:
    """Fill a ResNet with a state dict of akamaster's, or with a checkpoint file's content.

    Raises LayerpruneError for a network that has no such names, and for weights that do not fit; then nothing changes.
    """
    names, own = _names(network), network.state_dict()
    state = _state_dict(checkpoint)
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


def _names(network: SectionedNetwork) -> dict[str, str]:
    """akamaster's name of every weight, by its name here."""
    gone = [section.name for section in network.chain if not section.alive]
    if gone:
        raise LayerpruneError(f"{network.arch}: akamaster has no names for a pruned network ({gone[0]} went)")
    prefixes = _ENDS | {
        f"chain.{index}.branch.{layer}": f"{section.name.replace('stage', 'layer')}.{name}"
        for index, section in enumerate(network.chain)
        for layer, name in _BRANCH.items()
    }
    split = [name.rpartition(".") for name in network.state_dict()]
    odd = {layer for layer, _, _ in split} ^ set(prefixes)
    if odd and all(".shortcut." in layer for layer in odd):
        raise LayerpruneError(f"{network.arch}: akamaster has no names for option B, whose shortcuts have weights")
    if odd:
        raise LayerpruneError(f"{network.arch}: akamaster has names for CIFAR ResNets with post-activation only")
    return {f"{layer}.{number}": f"{prefixes[layer]}.{number}" for layer, _, number in split}
