"""Blocks that have lost all their sections: each passes its input on and is not entered any more.

A block may be replaced as a whole if its operations belong to its sections or are the activation behind the last of
them, and if it holds no other weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from layerprune.library.absence import RELU, PassedOn
from layerprune.library.recording import ModuleCall, Node, Recording
from layerprune.library.residuals import Residual
from layerprune.library.what_goes import Absence


@dataclass(frozen=True)
class Passage:
    """A block that can be replaced once `sections` have gone, by their names.

    `output` is the tree of its output then; `activation` the path in the block of the layer that it is put
    through, or RELU; `copied` says that its output has to be a tensor of its own.
    """

    path: str
    sections: frozenset[str]
    output: Any
    activation: str | None
    copied: bool


Parts = Mapping[str, Residual]
"""The removable sections of a recording by their names."""


def passages(
    model: nn.Module, pairs: Sequence[tuple[Recording, Parts]], absences: Mapping[str, Absence]
) -> tuple[Passage, ...]:
    """All blocks that can be passed over by every recording, outer ones first; `absences` are the sections'."""
    found = []
    for path in {part.addition.path for part in pairs[0][1].values()}:
        passage, *others = [_passage(*each, path, absences) for each in pairs]
        if passage is not None and all(each == passage for each in others) and _is_whole(model, passage, absences):
            found.append(passage)
    return tuple(sorted(found, key=lambda each: (each.path.count("."), each.path)))


def _passage(recording: Recording, parts: Parts, path: str, absences: Mapping[str, Absence]) -> Passage | None:
    calls = recording.calls_of(path)
    if len(calls) != 1 or not path:
        return None
    made = calls[0]
    inside = {name: part for name, part in parts.items() if made.number in part.addition.inside}
    replaced = {part.addition: part.passed for part in inside.values()}
    gone = {node for part in inside.values() for node in part.exclusive} | replaced.keys()
    left = [node for node in _operations(recording, made) if node not in gone]
    if not inside or len(left) > 1:
        return None
    activation = _activation(left[0], path) if left else None
    if left and activation is None:
        return None
    output = _output(made, replaced, left)
    if output is None:
        return None
    copied = any(absences[name].copied for name in inside)
    return Passage(path, frozenset(inside), output, activation, copied)


def _operations(recording: Recording, made: ModuleCall) -> list[Node]:
    """All but counts of batches in layers: what else leads nowhere may have decided on what is computed."""
    nodes = [node for node in recording.nodes if node.kind == "call" and made.number in node.inside]
    return [node for node in nodes if node.leaf is None or node not in recording.leading_nowhere]


def _activation(node: Node, path: str) -> str | None:
    if len(node.inputs) != 1 or node.macs or node.name not in _ACTIVATING:
        return None
    if node.leaf is not None and node.leaf.startswith(f"{path}."):
        return node.leaf.removeprefix(f"{path}.")
    return RELU if node.leaf is None and node.name in ("relu", "relu_") else None


_ACTIVATING = {"relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish"}


def _output(made: ModuleCall, replaced: Mapping[Node, Node], left: Sequence[Node]) -> Any:
    """The tree of the output; None unless it is the input, passed through the remaining activation."""
    given, leaves = [node for node, _ in made.inputs], []
    for each in made.outputs:
        if not isinstance(each, tuple):
            if isinstance(each, int | float) and not isinstance(each, bool):
                return None
            leaves.append(each)
            continue
        node = _resolved(each[0], replaced)
        if left and node is left[0]:
            node = _resolved(node.inputs[0], replaced)
        elif left:
            return None
        if node not in given:
            return None
        leaves.append(PassedOn.like(made.arguments[given.index(node)]))
    if not any(isinstance(each, PassedOn) for each in leaves) or (left and len(leaves) > 1):
        return None
    return pytree.tree_unflatten(leaves, made.layout)


def _resolved(node: Node, replaced: Mapping[Node, Node]) -> Node:
    while node in replaced:
        node = replaced[node]
    return node


def _is_whole(model: nn.Module, passage: Passage, absences: Mapping[str, Absence]) -> bool:
    """Whether all weights and buffers of a block are its sections'."""
    names = [name for section in passage.sections for name in absences[section].owned]
    state = model.get_submodule(passage.path).state_dict(prefix=f"{passage.path}.")
    return all(any(key == name or key.startswith(f"{name}.") for name in names) for key in state)
