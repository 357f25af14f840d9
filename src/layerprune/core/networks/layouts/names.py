"""State dicts under another project's names: only names change, so a layout is a mapping of names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError

Names = Mapping[str, str]
"""Their name of every weight, by its name here, in the order of the network's."""

_COUNTER = ".num_batches_tracked"
"""Absent from files written before torch 0.4.1; it decides nothing here."""


def names_by_layer(network: SectionedNetwork, layers: Mapping[str, str], theirs: str, covers: str) -> Names:
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


def renamed(network: SectionedNetwork, names: Names) -> dict[str, Tensor]:
    """The network's weights under their names."""
    state = network.state_dict()
    return {theirs: state[ours] for ours, theirs in names.items()}


def load_renamed(network: SectionedNetwork, names: Names, checkpoint: Mapping[str, Any]) -> None:
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
