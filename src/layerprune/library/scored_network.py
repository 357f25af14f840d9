"""A traced model as what score methods look at: a stem, a chain of sections with branches, a head.

The scores were written for networks.sections.SectionedNetwork. `ScoredNetwork` answers as it does: `sections[i].branch`
is a Sequential of the branch's layers in the order of the computation, and what it holds is what is computed with;
`stem` and the elements of `chain` are called with what has been computed so far, so that a hook on them sees it; `stem`
and `head` have the layers before the first section and behind the last; gates are those of networks.sections.

What stands behind a section is its addition, or the activation that alone follows it. Where channels come last, as in
transformers, they are shown second, as in pictures. A stage is a run of sections that put out one shape.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from layerprune.core.networks.sections import CLOSED, Gates
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import FoundSection, FoundSections
from layerprune.library.rewriting import erase_with_users, function_of, node_of

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention)
_CHANNELS_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.SELU),
)
_ACTIVATING = {"relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "tanh", "sigmoid"}


class Branch(nn.Sequential):
    """Layers of a branch in the order of its graph, which is what forward computes: not always one after the other."""

    def __init__(self, model: nn.Module, nodes: Sequence[fx.Node], fork: fx.Node, end: fx.Node) -> None:
        super().__init__()
        graph = fx.Graph()
        copies = {fork: graph.placeholder("x")}
        for node in nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.op in ("call_module", "get_attr"):
                copies[node].target = self._take(operator.attrgetter(node.target)(model), node.op)
        graph.output(copies[end])
        self._compute = function_of(graph, "a branch")

    def _take(self, part: Any, op: str) -> str:
        """Register a layer, or a weight that stands on its own; returns its name here."""
        if op == "call_module":
            self.append(part)
            return str(len(self) - 1)
        name = f"own{len(self._parameters) + len(self._buffers)}"
        if isinstance(part, nn.Parameter):
            self.register_parameter(name, part)
        else:
            self.register_buffer(name, part)
        return name

    def forward(self, x: Tensor) -> Tensor:
        return self._compute(self, x)


class Place(nn.Module):
    """A place of the network: the stem's end, or a section. Called with what is there, channels second."""

    def __init__(self, name: str, branch: Branch | None, channels_last: bool) -> None:
        super().__init__()
        self.name, self.branch, self.channels_last = name, branch, channels_last
        self.removable = branch is not None
        self.alive = True

    def forward(self, x: Tensor) -> Tensor:
        return self.channels_second(x)

    def channels_second(self, x: Tensor) -> Tensor:
        """What is there as scores look at it: [B, C, ...], a vector or a picture."""
        if x.dim() == 2:
            return x
        x = x.movedim(-1, 1) if self.channels_last else x
        return x.unsqueeze(-1) if x.dim() == 3 else x.flatten(3) if x.dim() > 4 else x


class ScoredNetwork(nn.Module):
    """A copy of a model, in evaluation mode, as a chain of sections; `found` are the sections that may go."""

    def __init__(self, sections: FoundSections) -> None:
        super().__init__()
        self.arch = type(sections.model).__name__
        self.found = sections.removable
        self.model = _plain_copy(sections.model)
        self._gates: Gates = None
        graph = _without_in_place(copy.deepcopy(sections.trace.evaluation))
        named = zip(sections, _names_by_stage(sections), strict=True)
        self.chain = nn.ModuleList(self._place(graph, *each) for each in named)
        self.sections = [place for place in self.chain if place.removable]
        self.stem = Place("stem", None, self.chain[0].channels_last)
        fork, behind = _fork(_nodes(graph, sections[0])), _what_stands_behind(self.model, graph, sections)
        self.stem.layers = nn.ModuleList(_layers_up_to(self.model, fork))
        self.head = nn.ModuleList(_layers_behind(self.model, behind[-1]))
        for place, section in zip(self.chain, sections, strict=True):
            if place.removable:
                self._move_branch(graph, section, place, behind)
        for place, node in zip([self.stem, *self.chain], [fork, *behind], strict=True):
            _call(graph, place, node)
        self._compute = function_of(graph, f"{self.arch} to be scored")

    def forward(self, x: Tensor, gates: Gates = None) -> Tensor:
        self._gates = gates
        logits = self._compute(self.model, x)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            told = f"a tensor of {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise LayerpruneError(
                f"{self.arch}: puts out {told}; scores that look at data need logits [batch, classes]"
            )
        return logits

    def _place(self, graph: fx.Graph, section: FoundSection, name: str) -> Place:
        nodes = _nodes(graph, section)
        branch = None
        if section.removable:
            branch = Branch(self.model, nodes, _fork(nodes), node_of(graph, section.added))
        return Place(name, branch, _has_channels_last(self.model, nodes, len(section.shape)))

    def _move_branch(self, graph: fx.Graph, section: FoundSection, place: Place, behind: list[fx.Node]) -> None:
        """Let the place's branch compute what the section's nodes did."""
        addition, added, nodes = node_of(graph, section.addition), node_of(graph, section.added), _nodes(graph, section)
        (passed,) = (each for each in addition.args[:2] if each is not added)
        with graph.inserting_before(addition):
            new = graph.call_function(self._adder(place), (passed, _fork(nodes)))
        addition.replace_all_uses_with(new)
        behind[:] = [new if each is addition else each for each in behind]
        graph.erase_node(addition)
        for node in reversed(nodes):
            for user in list(node.users):  # a check, which leads nowhere
                erase_with_users(graph, user)
            graph.erase_node(node)

    def _adder(self, place: Place) -> Callable[[Tensor, Tensor], Tensor]:
        index = self.sections.index(place)

        def add(passed: Tensor, fork: Tensor) -> Tensor:
            gate = None if self._gates is None else self._gates[index]
            if gate is CLOSED:
                return passed.clone()  # what follows may work in place
            out = place.branch(fork)
            if gate is None:
                return passed + out
            gate = gate if isinstance(gate, Tensor) else gate(out)
            return passed + gate.to(out.dtype).view(-1, *[1] * (out.dim() - 1)) * out

        add.__name__ = add.__qualname__ = f"section_{index}"
        return add


# --- in the graph -----------------------------------------------------------------------------------------------


def _plain_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, all of it with gradients; nothing in it works in place, so that hooks can look on."""
    copied = copy.deepcopy(model).eval()
    for part in copied.modules():
        if getattr(part, "inplace", False):
            part.inplace = False
    return copied.requires_grad_()


def _without_in_place(graph: fx.Graph) -> fx.Graph:
    for node in graph.nodes:
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
    return graph


def _nodes(graph: fx.Graph, section: FoundSection) -> list[fx.Node]:
    return [node for node in graph.nodes if node.name in section.nodes]


def _fork(nodes: Sequence[fx.Node]) -> fx.Node:
    """What a branch starts from: the one node outside it that it needs."""
    inside = set(nodes)
    return next(each for node in nodes for each in node.all_input_nodes if each not in inside)


def _what_stands_behind(model: nn.Module, graph: fx.Graph, sections: FoundSections) -> list[fx.Node]:
    """The last node of every section. An activation behind the last addition is the head's where none of the others'
    has one."""
    additions = [node_of(graph, section.addition) for section in sections]
    ends = [_activation_behind(model, addition) for addition in additions]
    activated = any(end is not addition for end, addition in zip(ends[:-1], additions[:-1], strict=True))
    return ends if activated or len(ends) == 1 else [*ends[:-1], additions[-1]]


def _activation_behind(model: nn.Module, node: fx.Node) -> fx.Node:
    users = list(node.users)
    return users[0] if len(users) == 1 and _is_activation(model, users[0]) else node


def _is_activation(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(node.target), _ACTIVATIONS)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name in _ACTIVATING


def _layers_up_to(model: nn.Module, last: fx.Node) -> list[nn.Module]:
    earlier = list(last.graph.nodes)
    earlier = earlier[: earlier.index(last) + 1]
    return [model.get_submodule(node.target) for node in earlier if node.op == "call_module"]


def _layers_behind(model: nn.Module, last: fx.Node) -> list[nn.Module]:
    later = list(last.graph.nodes)
    later = later[later.index(last) + 1 :]
    return [model.get_submodule(node.target) for node in later if node.op == "call_module"]


def _call(graph: fx.Graph, place: Place, node: fx.Node) -> None:
    """Call a place with what a node computes; nothing depends on what it returns."""

    def visit(x: Tensor) -> None:
        place(x)

    visit.__name__ = visit.__qualname__ = f"at_{place.name.replace('.', '_')}"
    with graph.inserting_after(node):
        graph.call_function(visit, (node,))


def _has_channels_last(model: nn.Module, nodes: Sequence[fx.Node], dimensions: int) -> bool:
    """By the first layer that says so; where none does, by the number of dimensions: tokens and not a picture."""
    for node in nodes:
        layer = model.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, _CHANNELS_LAST):
            return True
        if isinstance(layer, _CHANNELS_SECOND):
            return False
    return dimensions == 2


def _names_by_stage(sections: FoundSections) -> list[str]:
    """`stage<k>.<n>`, a stage for each run of sections of one shape."""
    names, stage, number = [], 0, 0
    for place, section in enumerate(sections):
        starts = place == 0 or section.shape != sections[place - 1].shape
        stage, number = (stage + 1, 0) if starts else (stage, number + 1)
        names.append(f"stage{stage}.{number}")
    return names
