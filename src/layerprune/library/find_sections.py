"""Which residual sections a model has: additions whose one input reaches the other by identity or a linear map.

The branch of a section is what lies between the fork, from which both ways start, and the addition. It may go where
nothing outside needs what it computes, and where its weights are its own.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from layerprune.errors import LayerpruneError
from layerprune.library.tracing import Measured, Trace, measure, trace

_ADDITIONS = {operator.add, operator.iadd, torch.add, torch.Tensor.add, torch.Tensor.add_}
_ADDING_METHODS = {"add", "add_", "__add__", "__iadd__"}
_LINEAR_MODULES = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Flatten),
)
_LINEAR_FUNCTIONS = {
    *(operator.getitem, torch.flatten, torch.permute, torch.transpose, torch.reshape, torch.nn.functional.pad),
    *(torch.nn.functional.avg_pool2d, torch.nn.functional.adaptive_avg_pool2d),
}
_LINEAR_METHODS = {"contiguous", "flatten", "permute", "transpose", "reshape", "view"}


@dataclass(frozen=True)
class FoundSection:
    """One section: where it is, what it adds (`shape` without the batch), what it costs, and whether it may go."""

    name: str
    shape: tuple[int, ...]
    macs: int
    params: int
    removable: bool
    reason: str
    """Why it may not go; empty where it may."""
    addition: str
    """Names of nodes: the addition, the end of the branch, and all of the branch."""
    added: str
    nodes: frozenset[str]
    owned: tuple[str, ...]
    """Modules, weights and buffers of the branch, by their paths in the model."""

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The branch's, in a model that still has them."""
        found = [operator.attrgetter(name)(model) for name in self.owned]
        listed = [each.parameters() if isinstance(each, nn.Module) else [each] for each in found]
        return [each for part in listed for each in part if isinstance(each, nn.Parameter)]


class FoundSections(Sequence[FoundSection]):
    """The sections of a model in the order of its computation, with the graphs that they were found in."""

    def __init__(
        self, model: nn.Module, traced: Trace, macs: int, found: Sequence[FoundSection], example: Tensor
    ) -> None:
        self.model = model
        self.trace = traced
        self.example = example
        self.macs = macs
        """Multiply-adds of the whole model, for one input."""
        self._found = tuple(found)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    @property
    def removable(self) -> tuple[FoundSection, ...]:
        """Those that may go."""
        return tuple(section for section in self if section.removable)

    def __str__(self) -> str:
        width = max(len(section.name) for section in self)
        lines = [f"{'section':{width}}  {'adds':>16}  {'MACs':>14}  {'parameters':>11}  may go"]
        for each in self:
            shape = "x".join(map(str, each.shape))
            told = "yes" if each.removable else f"no: {each.reason}"
            lines.append(f"{each.name:{width}}  {shape:>16}  {each.macs:>14,}  {each.params:>11,}  {told}")
        return "\n".join(lines)


def find_sections(model: nn.Module, example_input: Tensor) -> FoundSections:
    """The residual sections of any model that takes one batch of inputs; the model stays as it is.

    `example_input` [B, ...] is run once, in evaluation mode. Raises LayerpruneError where the model cannot be traced,
    does not take the example, or has no residual section.
    """
    traced = trace(model, example_input)
    measured = measure(model, traced.evaluation, example_input)
    uses = _uses_of_modules(traced.evaluation)
    found = [_described(model, part, measured, uses) for part in _parts(model, traced.evaluation, measured)]
    if not found:
        raise LayerpruneError(
            f"{type(model).__name__}: no residual section found; looked for additions whose one input reaches the "
            "other by identity or a linear map (convolution, linear layer, batch norm, mean-pool, padding, slicing)"
        )
    return FoundSections(model, traced, measured.total, _named(found), example_input)


# --- in the graph -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """An addition, its shortcut's and branch's last nodes, and the branch's nodes."""

    addition: fx.Node
    passed: fx.Node
    added: fx.Node
    nodes: tuple[fx.Node, ...]


def _parts(model: nn.Module, graph: fx.Graph, measured: Measured) -> Iterator[_Part]:
    for node in graph.nodes:
        if not _is_addition(node):
            continue
        first, second = node.args[:2]
        shapes = measured.shapes.get(first.name), measured.shapes.get(second.name)
        if shapes[0] is None or shapes[0] != shapes[1]:
            continue
        ways = [(first, second), (second, first)]
        found = [_Part(node, *way, nodes) for way in ways if (nodes := _branch(model, *way))]
        if found:  # where both inputs are linear in the fork, the costlier one is the branch
            yield max(found, key=lambda part: sum(measured.macs[each.name] for each in part.nodes))


def _is_addition(node: fx.Node) -> bool:
    adds = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in _ADDING_METHODS
    )
    return adds and len(node.args) >= 2 and all(isinstance(each, fx.Node) for each in node.args[:2]) and not node.kwargs


def _branch(model: nn.Module, passed: fx.Node, added: fx.Node) -> tuple[fx.Node, ...] | None:
    """The nodes between a fork on the way to `passed` and `added`; None where there is no such fork."""
    for fork in _linear_way(model, passed):
        nodes = _between(fork, added)
        if nodes and any(node.op == "call_module" or node.op == "get_attr" for node in nodes):
            return nodes
    return None


def _linear_way(model: nn.Module, node: fx.Node) -> Iterator[fx.Node]:
    """The node, and those before it for as long as they are reached linearly."""
    yield node
    while _is_linear(model, node):
        (node,) = _inputs_of(node)
        yield node


def _inputs_of(node: fx.Node) -> list[fx.Node]:
    """What a node is computed from, without sizes: how much is padded may depend on the input's channels."""
    return [each for each in node.all_input_nodes if not _is_size(each)]


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a tensor's shape, or computed from shapes alone."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] == "shape"
    return bool(node.all_input_nodes) and all(map(_is_size, node.all_input_nodes))


def _is_linear(model: nn.Module, node: fx.Node) -> bool:
    if len(_inputs_of(node)) != 1:
        return False
    if node.op == "call_module":
        return _is_linear_module(model.get_submodule(node.target))
    return (node.op == "call_function" and node.target in _LINEAR_FUNCTIONS) or (
        node.op == "call_method" and node.target in _LINEAR_METHODS
    )


def _is_linear_module(module: nn.Module) -> bool:
    """Other libraries' batch norms have an activation in them, which may be the identity."""
    return isinstance(module, _LINEAR_MODULES) and all(isinstance(each, nn.Identity) for each in module.children())


def _between(fork: fx.Node, end: fx.Node) -> tuple[fx.Node, ...] | None:
    """What `end` is computed with from `fork`, in order; None where it needs another input of the model, or not the
    fork."""
    reached, found, waiting = False, set(), [end]
    while waiting:
        node = waiting.pop()
        if node is fork:
            reached = True
        elif node.op == "placeholder":
            if not node.args:
                return None  # those with a default, as masks have, are no input that the branch needs
        elif node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    if not reached or end is fork:
        return None
    return tuple(node for node in end.graph.nodes if node in found)


# --- what is said of a section ----------------------------------------------------------------------------------


def _uses_of_modules(graph: fx.Graph) -> dict[str, int]:
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            uses[node.target] = uses.get(node.target, 0) + 1
    return uses


def _described(model: nn.Module, part: _Part, measured: Measured, uses: dict[str, int]) -> FoundSection:
    targets = dict.fromkeys(node.target for node in part.nodes if node.op in ("call_module", "get_attr"))
    modules = [name for name in targets if isinstance(operator.attrgetter(name)(model), nn.Module)]
    reason = _why_not(model, part, modules, uses)
    own = {id(each): each for each in _parameters(model, part)}
    return FoundSection(
        name=_common_path(modules or list(targets)) or part.addition.name,
        shape=measured.shapes[part.addition.name][1:],
        macs=sum(measured.macs[node.name] for node in part.nodes),
        params=sum(each.numel() for each in own.values()),
        removable=not reason,
        reason=reason,
        addition=part.addition.name,
        added=part.added.name,
        nodes=frozenset(node.name for node in part.nodes),
        owned=tuple(targets),
    )


def _parameters(model: nn.Module, part: _Part) -> Iterator[nn.Parameter]:
    for node in part.nodes:
        if node.op == "call_module":
            yield from model.get_submodule(node.target).parameters()
        elif node.op == "get_attr":
            value = operator.attrgetter(node.target)(model)
            if isinstance(value, nn.Parameter):
                yield value


def _why_not(model: nn.Module, part: _Part, modules: Sequence[str], uses: dict[str, int]) -> str:
    inside = {*part.nodes, part.addition}
    for node in part.nodes:
        for user in node.users:
            if user not in inside and not _leads_nowhere(user):
                return f"what '{node.name}' computes is used by '{user.name}' too"
        if uses.get(node.target, 0) > 1 and _has_state(model, node):
            return f"'{node.target}' is used more than once"
    others = {id(each): name for name, each in model.named_parameters(remove_duplicate=False) if not _is_in(name, part)}
    shared = [others[id(each)] for each in _parameters(model, part) if id(each) in others]
    if shared:
        return f"shares weights with '{shared[0]}'"
    hooked = [name for name in modules if _has_hooks(model.get_submodule(name))]
    if hooked:
        return f"'{hooked[0]}' has hooks"
    if any(_is_addition(node) and _branch(model, *node.args[:2]) for node in part.nodes):
        return "contains other sections"
    return ""


def _leads_nowhere(node: fx.Node) -> bool:
    """Whether a node only checks something, or asks for something that nobody uses."""
    if node.op == "call_function" and node.target is torch._assert:
        return True
    if not node.users:
        return node.op == "call_function" and node.target in (operator.getitem, getattr)
    return all(map(_leads_nowhere, node.users))


def _has_state(model: nn.Module, node: fx.Node) -> bool:
    """Whether what a node uses has weights or running statistics."""
    if node.op == "get_attr":
        return True
    return node.op == "call_module" and len(model.get_submodule(node.target).state_dict()) > 0


def _is_in(parameter: str, part: _Part) -> bool:
    targets = [node.target for node in part.nodes if node.op in ("call_module", "get_attr")]
    return any(parameter == target or parameter.startswith(f"{target}.") for target in targets)


def _has_hooks(module: nn.Module) -> bool:
    return any(map(_hooks_of, module.modules()))


def _hooks_of(module: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [hook for kind in kinds for hook in getattr(module, kind).values()]


def lost_hooks(model: nn.Module, traced: Trace) -> list[str]:
    """Modules whose hooks a generated forward method would not call, because it calls what is in them."""
    called = {node.target for node in traced.evaluation.nodes if node.op == "call_module"}
    names = [name for name, module in model.named_modules() if name and any(map(_is_of_somebody, _hooks_of(module)))]
    return [name for name in names if not any(name == each or name.startswith(f"{each}.") for each in called)]


def _is_of_somebody(hook: Any) -> bool:
    """Transformers' own hooks only wait to be asked for hidden states, which nobody can here."""
    return getattr(hook, "__name__", "") != "output_capturing_hook"


def _common_path(modules: Sequence[str]) -> str:
    """The path that all have in common, at least without the last name of a single one's."""
    paths = [name.split(".") for name in modules]
    common = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)


def _named(found: Sequence[FoundSection]) -> list[FoundSection]:
    """The sections with names of their own: a second one at the same path has its addition's name behind it."""
    seen: set[str] = set()
    named = []
    for section in found:
        name = section.name if section.name not in seen else f"{section.name}:{section.addition}"
        seen.add(name)
        named.append(FoundSection(**(vars(section) | {"name": name})))
    return named
