"""A recorded model as what score methods look at: a stem, a chain of sections with branches, a head.

The scores were written for networks.sections.SectionedNetwork. `ScoredNetwork` answers as it does: `sections[i].branch`
is a Sequential of the branch's layers in the order of the computation, and what it holds is what is computed with;
`stem` and the elements of `chain` are called with what has been computed so far, so that a hook on them sees it; `stem`
and `head` have the layers before the first section and behind the last; gates are those of networks.sections.

What stands behind a section is its addition, or the activation that alone follows it. Where channels come last, as in
transformers, they are shown second, as in pictures. A stage is a run of sections with one output shape.
"""

import copy
import dis
import operator
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from itertools import islice
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layerprune.core.networks.sections import CLOSED
from layerprune.core.networks.sections import Gates as GatesOfSections
from layerprune.errors import LayerpruneError
from layerprune.library import examples, registered_blocks
from layerprune.library.blocks import Block
from layerprune.library.caches import uncached
from layerprune.library.found_sections import FoundSection, FoundSections
from layerprune.library.gates import Gates, attach, detach
from layerprune.library.recording import Node, instruction
from layerprune.library.scored_batches import Inputs, logits_of

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention)
_CHANNELS_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.SELU),
)
_ACTIVATING = {"relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "tanh", "sigmoid"}


class Turned(nn.Linear):
    """In the place of Transformers' Conv1D, whose weights are those of a linear layer the other way round."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(*layer.weight.shape, device="meta")
        self.weight = nn.Parameter(layer.weight.detach().t().contiguous())
        self.bias = nn.Parameter(layer.bias.detach())
        self.train(layer.training)


class Branch(nn.Sequential):
    """Layers of a branch in the order of its computation, and weights that no layer applies. The model computes with
    them; to be looked at, not called."""

    def __init__(self, model: nn.Module, section: FoundSection) -> None:
        self.paths = _paths_of_layers(model, section.residual.nodes)
        super().__init__(*map(model.get_submodule, self.paths))
        for place, name in enumerate(_bare_weights(section, self.paths)):
            weight = operator.attrgetter(name)(model)
            register = self.register_parameter if isinstance(weight, nn.Parameter) else self.register_buffer
            register(f"own{place}", weight)


def _bare_weights(section: FoundSection, layers: Sequence[str]) -> list[str]:
    names = section.residual.weights
    return [name for name in names if not any(name.startswith(f"{path}.") for path in layers)]


class Place(nn.Module):
    """A place of the network: the stem's end, or a section. Called with what is there, channels second.

    Another branch of the same layers can be put in the place of `branch`; the model computes with it then.
    """

    def __init__(self, model: nn.Module, name: str, branch: Branch | None, channels_last: bool) -> None:
        super().__init__()
        vars(self)["_model"] = model  # not a part of this module
        self.name, self.branch, self.channels_last = name, branch, channels_last
        self.removable = branch is not None
        self.alive = True
        self.entered: Tensor | None = None
        """What a whole block has got, until it returns."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "branch" and value is not None:
            for path, layer in zip(value.paths, value, strict=True):
                owner, _, leaf = path.rpartition(".")
                self._model.get_submodule(owner)._modules[leaf] = layer

    def enter_at(self, layer: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        """The branch begins, with the call of a layer."""
        self.enter(*inputs, *named.values())

    def enter(self, *inputs: Any) -> None:
        given = (next(each for each in inputs if isinstance(each, Tensor)),)
        for hook in list(self.branch._forward_pre_hooks.values()):
            hook(self.branch, given)

    def leave(self, operands: tuple) -> None:
        """The branch has ended: its output is about to be added."""
        for hook in list(self.branch._forward_hooks.values()):
            hook(self.branch, (), operands[self.added])

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
        named = zip(sections, _names_by_stage(sections), strict=True)
        self.chain = nn.ModuleList(self._place(*each) for each in named)
        self.sections = [place for place in self.chain if place.removable]
        self.stem = Place(self.model, "stem", None, self.chain[0].channels_last)
        behind = _what_stands_behind(self.model, sections)
        fork, nodes = sections[0].residual.fork, sections.trace.nodes
        self.stem.layers = _layers_of(self.model, nodes[: fork.index + 1])
        self.head = _layers_of(self.model, nodes[behind[-1].index + 1 :])
        self._visits = _visits([fork, *behind], [self.stem, *self.chain])
        self._ends = self._watch_ends()
        self._starts = self._watch_starts()
        self._gates = Gates(self.model, len(self.found))
        attach(self.model, self._gates, [section.gateway for section in self.found])

    def forward(self, x: Tensor | Inputs, gates: GatesOfSections = None) -> Tensor:
        self._gates.values[:] = [_gate(each) for each in gates] if gates is not None else [None] * len(self.found)
        given = x if isinstance(x, Inputs) else Inputs(x, None)
        with uncached(self.model), _Visiting(self._visits, self._starts, self._ends):
            for place in self._visits.get(None, ()):
                place(given.first)
            logits = logits_of(examples.call(self.model, given.given))
        if given.labelled is not None and isinstance(logits, Tensor) and logits.shape[:-1] == given.labelled.shape:
            logits = logits[given.labelled]
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            told = f"a tensor of {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise LayerpruneError(
                f"{self.arch}: returns {told}; scores that look at data need logits [batch, classes], or "
                "[batch, tokens, classes] and a label for every token"
            )
        return logits

    def _watch_starts(self) -> "Visits":
        """Branches are entered where their first layer is called, or else at their first operation."""
        others: list[tuple[Node, Place]] = []
        for section, place in zip(self.found, self.sections, strict=True):
            first = section.residual.nodes[0]
            if isinstance(section.residual, Block):
                self.model.get_submodule(section.residual.paths[0]).register_forward_pre_hook(
                    partial(_enter_block, place, section.residual), with_kwargs=True
                )
            elif (layer := _layer_of(self.model, first)) is not None:
                self.model.get_submodule(layer).register_forward_pre_hook(place.enter_at, with_kwargs=True)
            else:
                others.append((first, place))
        return _visits([node for node, _ in others], [place for _, place in others])

    def _watch_ends(self) -> "Visits":
        """Branches are left where they are added; a block's is what the block has changed."""
        added: list[tuple[Node, Place]] = []
        for section, place in zip(self.found, self.sections, strict=True):
            part = section.residual
            if isinstance(part, Block):
                self.model.get_submodule(part.path).register_forward_hook(partial(_leave_block, place, part))
            else:
                place.added = part.addition.operands.index(part.added)
                added.append((part.addition, place))
        return _visits([node for node, _ in added], [place for _, place in added])

    def _place(self, section: FoundSection, name: str) -> Place:
        branch = Branch(self.model, section) if section.removable else None
        last = _has_channels_last(self.model, section.residual.nodes, len(section.shape))
        return Place(self.model, name, branch, last)


def _enter_block(place: Place, block: Block, module: nn.Module, inputs: tuple, named: dict) -> None:
    place.entered = block.given.of(inputs, named)
    place.enter(place.entered)


def _leave_block(place: Place, block: Block, module: nn.Module, inputs: tuple, output: Any) -> None:
    entered, place.entered = place.entered, None
    out = block.leaf.of(output)
    place.added = 0
    place.leave((out if block.vanishes else out - entered,))


def _gate(value: Any) -> Any:
    return torch.zeros(1, 1) if value is CLOSED else value


Key = tuple[tuple, int]
"""A place in the source, which gates in the code do not change, and how often it was met before."""


@cache
def _in_source(code: CodeType, place: int) -> tuple:
    return code.co_filename, code.co_name, next(islice(code.co_positions(), place // 2, None))


@cache
def _is_operator(code: CodeType, place: int) -> bool:
    """Whether it is `+=`, whose result takes the place of what it worked on, and no call."""
    return code.co_code[place] == dis.opmap["BINARY_OP"]


class _Visiting(TorchFunctionMode):
    """Calls each place with the output of the operation before it; nothing works in place."""

    def __init__(self, visits: "Visits", starts: "Visits", ends: "Visits") -> None:
        super().__init__()
        self._visits, self._starts, self._ends, self._passages = visits, starts, ends, Counter()
        self._watched = {key[0] for each in (visits, starts, ends) for key in each if key is not None}

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        place = instruction(2)
        here = _in_source(*place)
        kwargs = kwargs or {}
        if kwargs.get("inplace"):
            kwargs = {**kwargs, "inplace": False}
        if getattr(function, "__name__", "") == "add_" and _is_operator(*place):
            function = torch.add
        if here not in self._watched:
            return function(*args, **kwargs)
        key = here, self._passages[here]
        self._passages[here] += 1
        for place in self._starts.get(key, ()):
            place.enter(*args, *kwargs.values())
        for place in self._ends.get(key, ()):
            place.leave(args)
        result = function(*args, **kwargs)
        for place in self._visits.get(key, ()):
            place(result)
        return result


Visits = dict[Key | None, list[Place]]
"""Where in the code places are visited; None: with the model's input."""


def _visits(nodes: Sequence[Node], places: Sequence[Place]) -> Visits:
    found: Visits = {}
    for node, place in zip(nodes, places, strict=True):
        while node.site is None and node.kind == "call":  # of a view of what was overwritten
            node = node.inputs[-1]
        key = (_in_source(node.site.code, node.site.place), node.site.passage) if node.site is not None else None
        found.setdefault(key, []).append(place)
    return found


# --- in the recording -----------------------------------------------------------------------------------------------


def _plain_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, all of it with gradients; nothing in it works in place, so that hooks can look on."""
    copied = copy.deepcopy(model).eval()
    detach(copied)
    registered_blocks.use(copied)
    for part in list(copied.modules()):
        if getattr(part, "inplace", False):
            part.inplace = False
        for name, child in part.named_children():
            if _is_turned(child):
                setattr(part, name, Turned(child))
    return copied.requires_grad_()


def _is_turned(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _layer_of(model: nn.Module, node: Node) -> str | None:
    """The path of the layer that has computed a node."""
    is_turned = node.leaf is None and isinstance(model.get_submodule(node.path), Turned)
    return node.path if is_turned else node.leaf


def _paths_of_layers(model: nn.Module, nodes: Sequence[Node]) -> list[str]:
    paths = (_layer_of(model, node) for node in nodes if node.kind == "call")
    return list(dict.fromkeys(path for path in paths if path is not None))


def _what_stands_behind(model: nn.Module, sections: FoundSections) -> list[Node]:
    """The last node of every section. An activation behind the last addition is the head's where none of the others'
    has one."""
    additions = [section.residual.addition for section in sections]
    ends = [_activation_behind(model, addition) for addition in additions]
    activated = any(end is not addition for end, addition in zip(ends[:-1], additions[:-1], strict=True))
    return ends if activated or len(ends) == 1 else [*ends[:-1], additions[-1]]


def _activation_behind(model: nn.Module, node: Node) -> Node:
    users = node.users
    return users[0] if len(users) == 1 and _is_activation(model, users[0]) else node


def _is_activation(model: nn.Module, node: Node) -> bool:
    if node.leaf is not None:
        return isinstance(model.get_submodule(node.leaf), _ACTIVATIONS)
    return node.name in _ACTIVATING


def _layers_of(model: nn.Module, nodes: Sequence[Node]) -> nn.ModuleList:
    return nn.ModuleList(map(model.get_submodule, _paths_of_layers(model, nodes)))


def _has_channels_last(model: nn.Module, nodes: Sequence[Node], dimensions: int) -> bool:
    """By the first layer that says so; where none does, by the number of dimensions: tokens and not a picture."""
    for node in nodes:
        layer = model.get_submodule(node.leaf) if node.leaf is not None else None
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
