"""Whole blocks as sections: an encoder's or decoder's layer, or a block of a stage, removed or kept as one.

A block is the innermost module that contains additions and belongs to a list of modules of one class. Closed, it
returns its input, so it is removable if its output has the shape of its input; norms after its additions (BERT's) go
with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from layerprune.library.absence import Gone, HandedOn, PassedOn
from layerprune.library.places import FIRST, Argument, Place
from layerprune.library.recording import ModuleCall, Node, Recording
from layerprune.library.residuals import Residual, between

_LISTS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Block(Residual):
    """A block at `path` in place of its additions: `passed` is its input, `addition` its output."""

    path: str
    given: Argument | None = None
    """The argument that is its input."""
    leaf: Place = FIRST
    """The place of the output in what it returns: that of the first tensor."""
    puts_out: Any = None
    """The tree of its output once it is removed; None if it cannot be removed."""
    inside: tuple[Node, ...] = ()
    """All operations of the block."""
    before: tuple[tuple[str, Any], ...] = ()
    """Modules that go with it, called before one after the other, and what they put out then; the first gets the
    input."""
    vanishes: bool = False
    """Whether it puts out zeros when it is closed, and not its input."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all its modules, in the order of their calls."""
        return (*(path for path, _ in self.before), self.path)

    @property
    def computed(self) -> Sequence[Node]:
        return [node for node in self.inside if node is not self.addition]


def blocks(model: nn.Module, recording: Recording, parts: Mapping[tuple, Residual]) -> dict[tuple, Residual]:
    """Residuals by where they stand, those of each block as one."""
    names = _names_of_blocks(model)
    found: dict[tuple, Residual] = {}
    for place, part in parts.items():
        path = _around(part.addition.path, names)
        if path is None:
            found[place] = part
        elif ("block", path) not in found:
            within = [each for each in parts.values() if _around(each.addition.path, names) == path]
            found["block", path] = _block(recording, path, within)
    return found


def _names_of_blocks(model: nn.Module) -> set[str]:
    """Modules in lists of one class: another of its class is in the list, or the list has no other module."""
    found = set()
    for path, part in model.named_modules():
        if isinstance(part, _LISTS):
            there = {name: type(each) for name, each in part._modules.items() if not isinstance(each, HandedOn)}
            kinds = list(there.values())
            alike = [name for name, kind in there.items() if kinds.count(kind) > 1 or len(kinds) == 1]
            found |= {f"{path}.{name}".lstrip(".") for name in alike if not issubclass(there[name], _LISTS)}
    return found


def _around(path: str, names: set[str]) -> str | None:
    """The innermost block around a module, itself included."""
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path or None


def _block(recording: Recording, path: str, within: Sequence[Residual]) -> Block:
    fields = {name: getattr(within[-1], name) for name in Residual.__dataclass_fields__}
    lasting = Block(**fields, path=path)
    calls = recording.calls_of(path)
    if len(calls) != 1:
        return lasting
    leaf = next((place for place, each in enumerate(calls[0].outputs) if isinstance(each, tuple)), None)
    if leaf is None:
        return lasting
    out, _ = calls[0].outputs[leaf]
    through = _passed_through(out, within, [node for node, _ in calls[0].inputs])
    candidates = zip(calls[0].arguments, calls[0].inputs, strict=True)
    for given, (node, _) in sorted(candidates, key=lambda each: each[1][0] is not through):
        found = _from_input(recording, calls[0], out, node) if out.shape == node.shape else None
        if found:
            puts_out = _output(calls[0], leaf, given)
            return replace(lasting, **found, given=given, leaf=calls[0].places[leaf], puts_out=puts_out)
    return lasting


def _passed_through(out: Node, within: Sequence[Residual], given: Sequence[Node]) -> Node | None:
    """The input that a block's additions pass on to its output; None where the way back is not clear."""
    passed = {part.addition: part.passed for part in within}
    while out not in given:
        before = [passed[out]] if out in passed else [each for each in out.inputs if each.kind != "weight"]
        if len(before) != 1:
            return None
        (out,) = before
    return out


def _from_input(recording: Recording, made: ModuleCall, out: Node, given: Node) -> dict[str, Any] | None:
    """What a block does between its input and its output; None where that output does not come of that input."""
    inside = tuple(node for node in recording.nodes if node.kind == "call" and made.number in node.inside)
    own = set(inside)
    used = {each for node in inside for each in node.inputs if each.kind == "weight"}
    nodes = [node for node in between(given, out) if node in own]
    if out not in nodes:
        return None
    nodes.remove(out)
    return {
        "addition": out,
        "passed": given,
        "added": out,
        "fork": given,
        "nodes": tuple(nodes),
        "exclusive": frozenset(own | {each for each in used if own.issuperset(each.users)}),
        "inside": inside,
    }


def _output(made: ModuleCall, leaf: int, given: Argument) -> Any:
    """What takes the place of a block's output: its input, what else it hands on, and Gone."""
    ids = [number for _, number in made.inputs]
    leaves: list[Any] = []
    for place, each in enumerate(made.outputs):
        if place == leaf:
            leaves.append(PassedOn.like(given))
        elif isinstance(each, tuple):
            leaves.append(PassedOn.like(made.arguments[ids.index(each[1])]) if each[1] in ids else Gone())
        elif isinstance(each, int | float) and not isinstance(each, bool):
            return None
        else:
            leaves.append(each)
    return pytree.tree_unflatten(leaves, made.layout)
