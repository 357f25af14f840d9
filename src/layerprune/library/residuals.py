"""Residual additions in a recording: one operand is a linear function of a fork, the other the end of a branch that
starts at the fork.

Inputs of the branch that do not depend on the fork (masks, tables of positions, sizes) are not part of it, and stay
unless nothing else uses them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from layerprune.library.absence import ADDITIONS
from layerprune.library.recording import Node, Recording

_SUBTRACTIONS = {"sub", "sub_", "__sub__", "__isub__", "subtract"}
_LINEAR = {
    *("conv1d", "conv2d", "conv3d", "linear", "batch_norm", "group_norm", "pad", "_pad", "sync_batch_norm"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("flatten", "permute", "transpose", "reshape", "view", "contiguous", "squeeze", "unsqueeze", "movedim", "roll"),
    *("__getitem__", "to", "float", "type_as", "clone", "swapaxes", "rearrange", "native_batch_norm"),
}
_SCALING = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "multiply", "neg", "__neg__"}


@dataclass(frozen=True, eq=False, repr=False)
class Residual:
    """An addition, the operands that are passed and added, and the operations of the branch, in order."""

    addition: Node
    passed: Node
    added: Node
    fork: Node
    nodes: tuple[Node, ...]
    exclusive: frozenset[Node]
    """The branch, and all that only the branch uses: weights, and what is computed from them."""
    is_part: bool = False
    """Whether the branch has a part before `nodes`, which others use too."""

    @property
    def computed(self) -> Sequence[Node]:
        """What nobody may use but the addition."""
        return self.nodes

    @property
    def weights(self) -> list[str]:
        return [node.name for node in sorted(self.exclusive, key=lambda each: each.index) if node.kind == "weight"]

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.exclusive)


def residuals(recording: Recording) -> list[Residual]:
    """All residual additions of a recording, in the order of the computation."""
    found: dict[Node, Residual] = {}
    for node in recording.nodes:
        each = _residual(recording, node, found)
        if each is not None:
            found[node] = each
    return list(found.values())


def _residual(recording: Recording, node: Node, before: Mapping[Node, Residual]) -> Residual | None:
    operands = node.operands[:2]
    if node.kind != "call" or node.name not in ADDITIONS or len(operands) < 2 or None in operands:
        return None
    first, second = operands
    if node.operand_shapes[0] != node.operand_shapes[1] or first is second or not {first, second} <= recording.varying:
        return None
    ways = [(first, second)] if node.name in _SUBTRACTIONS else [(first, second), (second, first)]
    found = [each for way in ways if (each := _branch(recording, node, *way, before)) is not None]
    return max(found, key=lambda each: each.macs) if found else None  # the costlier one where both are linear


def _branch(
    recording: Recording, addition: Node, passed: Node, added: Node, before: Mapping[Node, Residual]
) -> Residual | None:
    """The branch from the nearest fork on the way to `passed`; None if no branch exists or it has no weights."""
    way: set[Node] = set()
    for fork in _linear_way(passed, recording.varying, before):
        if added in way:  # there is one way alone
            return None
        way.add(fork)
        nodes = between(fork, added)
        if nodes:
            own = _own(recording, nodes, addition)
            if own and own != nodes and any(each.kind == "weight" for node in own for each in node.inputs):
                return Residual(addition, passed, added, fork, own, _exclusive(recording, own), is_part=True)
            found = Residual(addition, passed, added, fork, nodes, _exclusive(recording, nodes))
            return found if found.weights or any(each.kind == "weight" for n in nodes for each in n.inputs) else None
    return None


def _own(recording: Recording, nodes: tuple[Node, ...], addition: Node) -> tuple[Node, ...]:
    """The end of a branch, as far back as nobody else uses what it computes."""
    own: set[Node] = set()
    for node in reversed(nodes):
        is_seen = node in recording.returned or node in recording.kept
        if not is_seen and all(
            each in own or each is addition or each in recording.leading_nowhere for each in node.users
        ):
            own.add(node)
    return tuple(node for node in nodes if node in own)


def _linear_way(node: Node, varying: set[Node], sums: Mapping[Node, Residual]) -> Iterator[Node]:
    """The node, and those before it for as long as they are reached linearly.

    Past a sum that only goes on in another one, as in x + f(x) + g(x).
    """
    yield node
    while True:
        before = [each for each in node.inputs if each in varying]
        if node in sums and len(node.users) == 1:
            before = [sums[node].passed]
        if len(before) != 1 or not _is_linear(node):
            return
        (node,) = before
        yield node


def _is_linear(node: Node) -> bool:
    return node.kind == "call" and (node.name in _LINEAR or node.name in _SCALING or node.name in ADDITIONS)


def between(fork: Node, end: Node) -> tuple[Node, ...]:
    """What depends on `fork` and is needed for `end`, in order."""
    if end.index <= fork.index:
        return ()
    needed, waiting = {end}, [end]
    while waiting:
        for each in waiting.pop().inputs:
            if each.index > fork.index and each not in needed:
                needed.add(each)
                waiting.append(each)
    reached, found = {fork}, []
    for node in sorted(needed, key=lambda each: each.index):
        if any(each in reached for each in node.inputs):
            reached.add(node)
            found.append(node)
    return tuple(found) if end in reached else ()


def _exclusive(recording: Recording, nodes: Iterable[Node]) -> frozenset[Node]:
    """The nodes and what nobody uses but them, or somebody whose result is of no use."""
    inside, nowhere = set(nodes), recording.leading_nowhere
    waiting = [each for node in inside for each in node.inputs if each not in inside]
    while waiting:
        node = waiting.pop()
        is_own = all(user in inside or user in nowhere for user in node.users)
        if node in inside or node.kind == "input" or not is_own:
            continue
        inside.add(node)
        waiting.extend(each for each in node.inputs if each not in inside)
    return frozenset(inside)
