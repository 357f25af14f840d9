"""Layers without a sum around them, as sections: what keeps the shape of its input, and what is concatenated with it.

A layer that puts out what has the shape of its input hands that on when it has gone (VGG's convolutions, Inception
and Fire modules with as many channels as before), and takes the norm and the activation behind it along. A layer whose
output is only concatenated, with what it was computed from (DenseNet's), puts out zeros when it has gone. Each may be a
run of modules, one called with what the other put out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch.utils import _pytree as pytree

from layerprune.library.absence import ADDITIONS, Gone, PassedOn, Removed, Zeros
from layerprune.library.blocks import Block
from layerprune.library.places import Argument
from layerprune.library.recording import ModuleCall, Node, Recording
from layerprune.library.residuals import between

_CONCATENATING = {"cat", "concat", "concatenate"}
_TAKING_A_PART = {"__getitem__", "narrow"}
_FOLLOWING = {
    *(
        "batch_norm",
        "native_batch_norm",
        "group_norm",
        "instance_norm",
        "layer_norm",
        "rms_norm",
        "local_response_norm",
    ),
    *("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish"),
    *("sigmoid", "tanh", "softplus", "prelu"),
}
"""Norms and activations, which go with the layer that they stand behind."""


@dataclass(frozen=True)
class Run:
    """Modules, by their paths, each of which is called with what the one before put out.

    `dim` is the dimension in which the last one's output is concatenated; None where it has the shape of the input.
    """

    paths: tuple[str, ...]
    dim: int | None = None


def runs(recording: Recording) -> list[Run]:
    """All runs of a recording that compute something; they may lie within each other."""
    found = [run for made in recording.calls if _is_usable(recording, made) for run in _runs(recording, made)]
    return list(dict.fromkeys(found))


def blocks_of(recording: Recording, found: Sequence[Run]) -> dict[tuple, Block]:
    """Runs as sections, by where they stand; without those that this recording lacks."""
    made = {("run", run.paths, run.dim): _block(recording, run) for run in found}
    return {place: block for place, block in made.items() if block is not None}


def _is_usable(recording: Recording, made: ModuleCall) -> bool:
    once = made.path != "" and len(recording.calls_of(made.path)) == 1
    if not once or isinstance(made.module, Removed) or not _computes(recording, made):
        return False
    return not any(_is_of_a_shared_layer(recording, node) for node in _inside(recording, made))


def _is_of_a_shared_layer(recording: Recording, node: Node) -> bool:
    """Whether a layer with weights has computed it that is called more than once, as in networks that repeat one."""
    has_weights = any(each.kind == "weight" for each in node.inputs)
    return node.leaf is not None and has_weights and len(recording.calls_of(node.leaf)) > 1


def _computes(recording: Recording, made: ModuleCall) -> bool:
    return any(node.macs for node in _inside(recording, made)) and _leaf(recording, made) is not None


def _runs(recording: Recording, made: ModuleCall) -> Iterator[Run]:
    if _given(recording, [made], None) is not None:
        yield Run(tuple(each.path for each in _with_followers(recording, made)))
    before = _with_predecessors(recording, made)
    for dim in _concatenated_in(recording, before):
        if _given(recording, before, dim) is not None:
            yield Run(tuple(each.path for each in before), dim)


# --- calls ------------------------------------------------------------------------------------------------------


def _inside(recording: Recording, made: ModuleCall) -> list[Node]:
    nodes = recording.nodes[made.start : made.end]
    return [node for node in nodes if node.kind == "call" and made.number in node.inside]


def _leaf(recording: Recording, made: ModuleCall) -> int | None:
    """The place of the first tensor among a call's outputs, if the call has computed it."""
    found = [(place, each[0]) for place, each in enumerate(made.outputs) if isinstance(each, tuple)]
    place, node = found[0] if found else (None, None)
    return place if node is not None and made.number in node.inside else None


def _out(recording: Recording, made: ModuleCall) -> Node:
    return made.outputs[_leaf(recording, made)][0]


def _given(recording: Recording, calls: Sequence[ModuleCall], dim: int | None) -> Argument | None:
    """The first call's argument that the last one's output comes of and has the shape of (but for one dimension)."""
    out = _out(recording, calls[-1])
    for given, (node, _) in zip(calls[0].arguments, calls[0].inputs, strict=True):
        if _are_alike(node.shape, out.shape, dim) and out in between(node, out):
            return given
    return None


def _are_alike(one: Sequence[int], other: Sequence[int], dim: int | None) -> bool:
    sizes = zip(one, other, strict=False)
    return len(one) == len(other) > 1 and all(a == b or place == dim for place, (a, b) in enumerate(sizes))


def _users(recording: Recording, node: Node) -> list[Node]:
    return [each for each in node.users if each not in recording.leading_nowhere]


def _is_seen(recording: Recording, node: Node) -> bool:
    return node in recording.returned or node in recording.kept


# --- runs -------------------------------------------------------------------------------------------------------


def _with_followers(recording: Recording, made: ModuleCall) -> list[ModuleCall]:
    """A call, and those of norms and activations that alone take what it puts out."""
    found = [made]
    while len(found[-1].outputs) == 1:
        behind = _follower(recording, _out(recording, found[-1]))
        if behind is None:
            break
        found.append(behind)
    return found


def _follower(recording: Recording, out: Node) -> ModuleCall | None:
    users = set(_users(recording, out))
    if not users or _is_seen(recording, out):
        return None
    for each in recording.calls:
        if [node for node, _ in each.inputs] == [out] and _is_norm_or_activation(recording, each, out):
            return each if users.issubset(_inside(recording, each)) else None
    return None


def _is_norm_or_activation(recording: Recording, made: ModuleCall, given: Node) -> bool:
    nodes = [node for node in _inside(recording, made) if node not in recording.leading_nowhere]
    once = len(recording.calls_of(made.path)) == 1 and len(made.outputs) == 1
    return once and bool(nodes) and all(node.name in _FOLLOWING and node.shape == given.shape for node in nodes)


def _with_predecessors(recording: Recording, made: ModuleCall) -> list[ModuleCall]:
    """A call, and those before it whose outputs it alone takes."""
    found = [made]
    while len(found[0].inputs) == 1:
        before = _predecessor(recording, found[0])
        if before is None:
            break
        found.insert(0, before)
    return found


def _predecessor(recording: Recording, made: ModuleCall) -> ModuleCall | None:
    ((given, _),) = made.inputs
    own = set(_inside(recording, made))
    if _is_seen(recording, given) or not own.issuperset(_users(recording, given)):
        return None
    around = {number for node in own for number in node.inside}
    ends = [
        each
        for each in recording.calls
        if each.number not in around
        and len(recording.calls_of(each.path)) == 1
        and len(each.outputs) == 1
        and _leaf(recording, each) is not None
        and _out(recording, each) is given
    ]
    return max(ends, key=lambda each: each.order, default=None)


# --- concatenations ---------------------------------------------------------------------------------------------


def _concatenated_in(recording: Recording, calls: Sequence[ModuleCall]) -> set[int]:
    """The dimension in which all that becomes of a run's output is concatenated with what the run was given."""
    out, forks = _out(recording, calls[-1]), {node for node, _ in calls[0].inputs}
    ends = None if _is_seen(recording, out) else _ends(recording, out)
    if not ends or not all(_passes(end, forks) for _, end in ends):
        return set()
    dims = {tuple(_odd(part.shape, end.shape)) for part, end in ends}
    return set(*dims) if len(dims) == 1 and all(len(each) == 1 for each in dims) else set()


def _odd(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]


def _ends(recording: Recording, node: Node) -> list[tuple[Node, Node]] | None:
    """Concatenations that a value gets into, whole, in parts, or in sums, behind what of it is concatenated there; None
    where anything else is done with it."""
    found: list[tuple[Node, Node]] = []
    for user in _users(recording, node):
        if user.name in _CONCATENATING:
            found.append((node, user))
            continue
        is_on_the_way = user.name in _TAKING_A_PART or user.name in ADDITIONS
        behind = _ends(recording, user) if is_on_the_way and not _is_seen(recording, user) else None
        if behind is None:
            return None
        found += behind
    return found or None


def _passes(concatenation: Node, forks: set[Node]) -> bool:
    """Whether what was given goes in, bare or as a summand."""
    summands = {each for node in concatenation.inputs if node.name in ADDITIONS for each in node.inputs}
    return not forks.isdisjoint({*concatenation.inputs, *summands})


# --- sections ---------------------------------------------------------------------------------------------------


def _block(recording: Recording, run: Run) -> Block | None:
    found = [recording.calls_of(path) for path in run.paths]
    if any(len(each) != 1 or _leaf(recording, each[0]) is None for each in found):
        return None
    calls = [each for (each,) in found]
    given = _given(recording, calls, run.dim)
    places = _places(recording, calls)
    if given is None or places is None:
        return None
    out, leaf = _out(recording, calls[-1]), _leaf(recording, calls[-1])
    inside = tuple(node for each in calls for node in _inside(recording, each))
    fork, own = calls[0].inputs[int(given)][0], set(inside)
    if any(fork.storage in node.overwrites for node in inside):  # it could not hand on what it was given
        return None
    used = {each for node in inside for each in node.inputs if each.kind == "weight"}
    *before, last = [given, *places]
    gone = PassedOn.like(last) if run.dim is None else Zeros.like(last, out.shape, run.dim)
    outputs = [_output(each, 0, PassedOn.like(place)) for each, place in zip(calls[:-1], before, strict=True)]
    return Block(
        addition=out,
        passed=fork,
        added=out,
        fork=fork,
        nodes=tuple(node for node in inside if node not in recording.leading_nowhere),
        exclusive=frozenset(own | {each for each in used if own.issuperset(each.users)}),
        path=run.paths[-1],
        given=given,
        leaf=calls[-1].places[leaf],
        puts_out=_output(calls[-1], leaf, gone),
        inside=inside,
        before=tuple(zip(run.paths[:-1], outputs, strict=True)),
        vanishes=run.dim is not None,
    )


def _places(recording: Recording, calls: Sequence[ModuleCall]) -> list[Argument] | None:
    """Of all calls but the first: the argument that is what the call before puts out."""
    places = []
    for one, other in pairwise(calls):
        given = [node for node, _ in other.inputs]
        if _out(recording, one) not in given or len(one.outputs) != 1:
            return None
        places.append(other.arguments[given.index(_out(recording, one))])
    return places


def _output(made: ModuleCall, leaf: int, gone: Any) -> Any:
    """What takes the place of a call's output, with `gone` for its first tensor; None where that cannot be said."""
    if any(isinstance(each, int | float) and not isinstance(each, bool) for each in made.outputs):
        return None
    leaves = [Gone() if isinstance(each, tuple) else each for each in made.outputs]
    leaves[leaf] = gone
    return pytree.tree_unflatten(leaves, made.layout)
