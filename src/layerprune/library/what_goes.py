"""What is removed with a section: which modules and weights are replaced."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from layerprune.library.absence import ADDITIONS, Gone, PassedOn
from layerprune.library.blocks import Block
from layerprune.library.recording import ModuleCall, Node, Recording
from layerprune.library.residuals import Residual


@dataclass(frozen=True)
class Absence:
    """What goes with a section: modules by their paths, with their outputs from then on, and single weights."""

    modules: tuple[tuple[str, Any], ...]
    weights: tuple[str, ...]
    copied: bool
    shaped: bool = False
    """Whether the model's code asks for the sizes of what is absent."""
    handed_on: bool = False
    """Whether the modules are a whole block, which passes its input through once its section has gone, or puts out
    zeros."""

    @property
    def owned(self) -> tuple[str, ...]:
        return (*(path for path, _ in self.modules), *self.weights)


def absence_of(model: nn.Module, pairs: Sequence[tuple[Recording, Residual]]) -> Absence:
    """What goes with a section that has been found in recordings, the first of evaluation."""
    copied = any(_is_overwritten(*pair) for pair in pairs)
    first = pairs[0][1]
    if isinstance(first, Block):
        return Absence((*first.before, (first.path, first.puts_out)), (), copied, handed_on=True)
    whole = [_calls_within(*pair) for pair in pairs]
    paths = [path for path in whole[0] if all(path in found for found in whole[1:])]
    modules: dict[str, Any] = {}
    for path in paths:
        if not any(path.startswith(f"{outer}.") for outer in modules):
            modules[path] = _output(whole[0][path], set(pairs[0][1].nodes), copied)
    weights = [name for name in pairs[0][1].weights if not any(name.startswith(f"{path}.") for path in modules)]
    return Absence(tuple(modules.items()), tuple(weights), copied)


def _is_overwritten(recording: Recording, residual: Residual) -> bool:
    """Whether something later works in place on the sum, or on what it would be without the branch."""
    watched = {residual.addition.storage, residual.passed.storage}
    later = recording.nodes[residual.addition.index + 1 :]
    own = residual.addition.overwrites & {residual.passed.storage}
    return bool(own) or any(node.overwrites & watched for node in later)


def _calls_within(recording: Recording, residual: Residual) -> dict[str, ModuleCall]:
    """Modules that are called once and compute nothing but the branch, outer ones first."""
    nodes = [node for node in residual.exclusive if node.kind == "call" and node not in recording.leading_nowhere]
    inside = Counter(number for node in nodes for number in node.inside)
    everything = recording.operations_inside
    branch = set(residual.nodes)
    found = {}
    for each in recording.calls:
        once = len(recording.calls_of(each.path)) == 1 and each.path
        if once and inside[each.number] == everything[each.number] and _output(each, branch) is not None:
            found[each.path] = each
    return found


def _output(made: ModuleCall, branch: set[Node], copied: bool = False) -> Any:
    """What takes the place of a module's output; None where that cannot be said."""
    leaves, ids, absent = [], [number for _, number in made.inputs], False
    for each in made.outputs:
        if not isinstance(each, tuple):
            if isinstance(each, int | float) and not isinstance(each, bool):
                return None
            leaves.append(each)
        elif each[0] in branch:
            absent = True
            leaves.append(Gone(copied, len(each[0].shape) or None, **_shape_by_input(made, each[0].shape)))
        elif each[1] in ids:
            leaves.append(PassedOn.like(made.arguments[ids.index(each[1])]))
        else:
            return None
    return pytree.tree_unflatten(leaves, made.layout) if absent else None


def _shape_by_input(made: ModuleCall, shape: tuple[int, ...]) -> dict[str, Any]:
    """Which of a call's inputs had a shape, or all of it but the last size, or the channels of a convolution."""
    given = zip(made.arguments, made.inputs, strict=True)
    computed_first = sorted(given, key=lambda each: each[1][0].kind != "call")  # a mask may be absent another time
    shapes = [(argument, node.shape) for argument, (node, _) in computed_first]
    for argument, each in shapes:
        if each == shape:
            return {"same_as": argument}
    for place in (-1, -1 - len(made.module.kernel_size)) if isinstance(made.module, _ConvNd) else (-1,):
        for argument, each in shapes:
            if _differ_at(place, shape, each):
                return {"same_as": argument, "other": (place, shape[place])}
    return {}


def _differ_at(place: int, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes of several sizes differ in one alone."""
    differing = [each - len(one) for each in range(len(one)) if each >= len(other) or one[each] != other[each]]
    return len(one) == len(other) > 1 and differing == [place]


def is_absent(recording: Recording, residual: Residual, absence: Absence) -> bool:
    """Whether nothing is added once the modules and weights are removed: runs their new outputs through the branch."""
    numbers = {each.number for path, _ in absence.modules for each in recording.calls_of(path)}
    gone = {node for node in residual.exclusive if node.kind == "weight" and node.name in absence.weights}
    for node in residual.nodes:
        absent = [each in gone for each in node.operands[:2]]
        is_passed_over = node.name in ADDITIONS and sum(absent) == 1 and None not in node.operands[:2]
        within = numbers & set(node.inside)
        if within or (any(each in gone for each in node.inputs) and not is_passed_over):
            gone.add(node)
    return residual.added in gone
