"""A model's forward method, generated from its graphs: with gates on branches, and without sections that have gone.

The model stays the same object with the same modules under the same names; only its method `forward` is replaced, by
`Forward`, and modules of removed branches are deleted from it.
"""

import copy
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import FoundSection, FoundSections

_IN_PLACE = ("iadd", "isub", "imul", "itruediv")
GateValue = Tensor | None
"""Of one section in one forward pass: [B, 1] or [1, 1], None: open."""


class Forward:
    """The generated forward methods of a model, one for each mode."""

    def __init__(self, sections: FoundSections) -> None:
        self.model = sections.model
        self.sections = sections.removable
        self.graphs = tuple(copy.deepcopy(graph) for graph in sections.trace.graphs)
        self._only_input = sections.trace.only_input
        self.alive = [True] * len(self.sections)
        self.values: list[GateValue] = [None] * len(self.sections)
        self._gates = [self._gate(place) for place in range(len(self.sections))]

    def install(self) -> None:
        """Generate the methods and give them to the model."""
        training, evaluation = (self._method(graph) for graph in self.graphs)

        only_input = self._only_input

        def forward(model: nn.Module, *inputs: Any, **named: Any) -> Any:
            if only_input is not None and len(named) > (not inputs):
                named = _without_defaults(model, only_input, named)
            return (training if model.training else evaluation)(model, *inputs, **named)

        self.model.forward = MethodType(forward, self.model)

    def remove(self, places: Sequence[int]) -> list[nn.Parameter]:
        """Take sections out for good; returns the parameters that have gone with them."""
        before = {id(each): each for each in self.model.parameters()}
        for place in places:
            section = self.sections[place]
            for graph in self.graphs:
                _take_out(self.model, graph, section)
            self.alive[place] = False
            self._delete(section)
        self.install()
        left = {id(each) for each in self.model.parameters()}
        return [each for key, each in before.items() if key not in left]

    def plain(self) -> fx.GraphModule:
        """A module of its own without gates, which computes what the model does in evaluation; weights are copied."""
        shared = fx.GraphModule(self.model, copy.deepcopy(self.graphs[1]), type(self.model).__name__)
        return copy.deepcopy(shared).train(self.model.training)

    def without(self, places: Sequence[int]) -> fx.GraphModule:
        """What the model computes in evaluation without these sections; its weights, shared."""
        graph = copy.deepcopy(self.graphs[1])
        for place in places:
            if self.alive[place]:
                _take_out(self.model, graph, self.sections[place])
        return fx.GraphModule(self.model, graph, type(self.model).__name__)

    def _gate(self, place: int) -> Callable[[Tensor], Tensor]:
        def gate(out: Tensor) -> Tensor:
            value = self.values[place]
            return out if value is None else out * value.to(out.dtype).view(-1, *[1] * (out.dim() - 1))

        gate.__name__ = gate.__qualname__ = f"gate_{place}"
        return gate

    def _method(self, graph: fx.Graph) -> Callable[..., Any]:
        graph = copy.deepcopy(graph)
        for place, section in enumerate(self.sections):
            if self.alive[place]:
                _insert_gate(graph, section, self._gates[place])
        return function_of(graph, f"forward of {type(self.model).__name__}")

    def _delete(self, section: FoundSection) -> None:
        """Delete what the branch owned from the model, unless something else uses it, as one activation often is."""
        used = {node.target for graph in self.graphs for node in graph.nodes if node.op in ("call_module", "get_attr")}
        for name in section.owned:
            if not any(target == name or target.startswith(f"{name}.") for target in used):
                owner, _, leaf = name.rpartition(".")
                delattr(self.model.get_submodule(owner), leaf)
        for graph in self.graphs:
            graph.lint()


def _without_defaults(model: nn.Module, only_input: str, named: dict[str, Any]) -> dict[str, Any]:
    """The one input that the graphs take; others have to be what they were when the model was traced."""
    settings = getattr(model, "config", None)
    for name, value in named.items():
        usual = value is None or (not isinstance(value, Tensor) and value == getattr(settings, name, None))
        if name not in (only_input, "num_items_in_batch") and not usual:  # the latter is for losses
            inner = getattr(model, "base_model", model)
            hint = "" if inner is model else ": look for sections in model.base_model, which needs no labels"
            raise LayerpruneError(
                f"{type(model).__name__}: its sections were found for the input '{only_input}' alone; "
                f"'{name}' cannot be given{hint}"
            )
    return {name: value for name, value in named.items() if name == only_input}


def function_of(graph: fx.Graph, title: str) -> Callable[..., Any]:
    """A function of a module and its inputs that computes a graph."""
    code = graph.python_code("self")
    names = dict(code.globals)
    exec(compile(code.src, f"<layerprune: {title}>", "exec"), names)
    return names["forward"]


def node_of(graph: fx.Graph, name: str) -> fx.Node:
    return next(node for node in graph.nodes if node.name == name)


def _insert_gate(graph: fx.Graph, section: FoundSection, gate: Callable[[Tensor], Tensor]) -> None:
    addition, added = node_of(graph, section.addition), node_of(graph, section.added)
    with graph.inserting_before(addition):
        addition.replace_input_with(added, graph.call_function(gate, (added,)))


def _take_out(model: nn.Module, graph: fx.Graph, section: FoundSection) -> None:
    addition, added = node_of(graph, section.addition), node_of(graph, section.added)
    (passed,) = (each for each in addition.args[:2] if each is not added)  # another addition may have taken its place
    users = list(addition.users)
    if _is_relu(model, passed):
        for user in [user for user in users if _is_relu(model, user)]:  # a second one does nothing
            user.replace_all_uses_with(passed)
            graph.erase_node(user)
            users.remove(user)
    if any(_is_in_place(model, user) for user in users):  # others, and the backward pass, need what is passed as it is
        with graph.inserting_before(addition):
            passed = graph.call_function(torch.clone, (passed,))
    addition.replace_all_uses_with(passed)
    graph.erase_node(addition)
    dead = [node for node in reversed(graph.nodes) if node.name in section.nodes]
    for node in dead:
        for user in list(node.users):
            erase_with_users(graph, user)
        graph.erase_node(node)


def _is_relu(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(node.target), nn.ReLU)
    return node.target in (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")


def _is_in_place(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return getattr(model.get_submodule(node.target), "inplace", False)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE


def erase_with_users(graph: fx.Graph, node: fx.Node) -> None:
    """Erase a check of what has gone."""
    for user in list(node.users):
        erase_with_users(graph, user)
    graph.erase_node(node)
