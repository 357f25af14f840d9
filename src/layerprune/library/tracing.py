"""A model as graphs of operations (torch.fx), one for training and one for evaluation, with shapes and multiply-adds.

What a forward method does depending on `self.training` is fixed when it is traced, so it is traced in both modes.
Blocks that cannot be traced, because their forward method branches on values, say, are registered: register_block.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from layerprune.core.measure import evaluating
from layerprune.errors import LayerpruneError
from layerprune.library.known_shapes import KnownShapes


@dataclass(frozen=True)
class Block:
    """What a registered block computes: activation(shortcut(x) + branch(x)); names of its attributes."""

    branch: tuple[str, ...]
    shortcut: str | None
    activation: str | None


_BLOCKS: dict[type[nn.Module], Block] = {}


def register_block(
    kind: type[nn.Module], branch: str | Sequence[str], shortcut: str | None = None, activation: str | None = None
) -> None:
    """Tell what blocks of a class compute, so that they need not be traced: activation(shortcut(x) + branch(x)).

    `branch` names an attribute of the block, or several that are applied one after the other; an absent shortcut or
    activation is the identity. A block whose shortcut attribute is None has the identity.
    """
    _BLOCKS[kind] = Block((branch,) if isinstance(branch, str) else tuple(branch), shortcut, activation)


class _Tracer(fx.Tracer):
    """Does not enter registered blocks, modules that `closed` names, and batch norms of other libraries: these count
    their batches, which a trace would do once and for all."""

    proxy_buffer_attributes = True  # or what is computed from a buffer would be a constant of the trace

    def __init__(self, closed: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.closed = closed

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        closed = type(module) in _BLOCKS or name in self.closed or isinstance(module, nn.modules.batchnorm._BatchNorm)
        return closed or super().is_leaf_module(module, name)


class _KnownShapesTracer(KnownShapes, _Tracer):
    pass


@dataclass(frozen=True)
class Trace:
    """A model's graphs; they have the same nodes by name."""

    training: fx.Graph
    evaluation: fx.Graph
    only_input: str | None = None
    """Name of the one input that the graphs take, where the model has others that keep their defaults."""

    @property
    def graphs(self) -> tuple[fx.Graph, fx.Graph]:
        return self.training, self.evaluation


def trace(model: nn.Module, example: Tensor | None = None) -> Trace:
    """The graphs of a model; with an example batch also of one that asks its tensors for their shapes.

    Raises LayerpruneError where torch.fx cannot follow the forward method, or where it differs between the modes.
    """
    try:
        return _trace(model, lambda closed: _Tracer(closed))
    except LayerpruneError as error:
        if example is None:
            raise
        try:
            return _trace(model, lambda closed: _knowing(example, closed))
        except LayerpruneError:
            raise error from None


def trace_for(model: nn.Module, example: Tensor) -> fx.Graph:
    """What a model computes in evaluation of one input like the example; its other inputs keep their defaults.

    Raises LayerpruneError where torch.fx cannot follow the forward method.
    """
    graph, constants = _graph(model, _knowing(example, frozenset()), training=False)
    vars(model).update(constants)
    return graph


def _knowing(example: Tensor, closed: frozenset[str]) -> _KnownShapesTracer:
    tracer = _KnownShapesTracer(closed)
    tracer.start(example)
    return tracer


def _trace(model: nn.Module, tracer_of: Callable[[frozenset[str]], _Tracer]) -> Trace:
    """What has no weights and computes something else in each mode, as stochastic depth, is not entered."""
    closed: frozenset[str] = frozenset()
    while True:
        tracers = tracer_of(closed), tracer_of(closed)
        made = [_graph(model, *each) for each in zip(tracers, (True, False), strict=True)]
        graphs, constants = zip(*made, strict=True)
        if _are_alike(graphs, constants):
            vars(model).update(constants[0])
            for graph in graphs:
                _expand_blocks(graph, model)
            return Trace(*graphs, only_input=getattr(tracers[0], "input_name", None))
        differing = _differing(model, *graphs) - closed
        if not differing:
            raise LayerpruneError(
                f"{type(model).__name__}: computes other operations in training than in evaluation; "
                "name the blocks that differ with layerprune.register_block"
            )
        closed |= differing


def _graph(model: nn.Module, tracer: _Tracer, training: bool) -> tuple[fx.Graph, dict[str, Tensor]]:
    """The graph, and the tensors that the forward method makes of nothing, which torch.fx gives to the model."""
    before = set(vars(model))
    constants: dict[str, Tensor] = {}
    with _in_mode(model, training):
        try:
            graph = tracer.trace(model)
        except Exception as error:  # fx raises what the model raises for stand-ins of tensors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise LayerpruneError(
                f"{type(model).__name__}: cannot be traced by torch.fx: {reason}; "
                "name the blocks that it cannot follow with layerprune.register_block"
            ) from None
        finally:
            added = [name for name in vars(model) if name not in before and name.startswith("_tensor_constant")]
            constants.update({name: vars(model).pop(name) for name in added})
    for node in [node for node in graph.nodes if node.op == "get_attr" and not node.users]:
        graph.erase_node(node)  # a weight that was asked for its type only
    return graph, constants


def _are_alike(graphs: Sequence[fx.Graph], constants: Sequence[dict[str, Tensor]]) -> bool:
    """Whether the graphs of both modes have the same nodes by name, and the same constants."""
    names = [[node.name for node in graph.nodes] for graph in graphs]
    return names[0] == names[1] and all(torch.equal(value, constants[1][name]) for name, value in constants[0].items())


def _differing(model: nn.Module, *graphs: fx.Graph) -> frozenset[str]:
    """Modules without weights whose own operations differ between graphs."""
    training, evaluation = (_operations(graph) for graph in graphs)
    names = {name for name in training.keys() | evaluation.keys() if training.get(name) != evaluation.get(name)}
    return frozenset(name for name in names if name and not any(True for _ in model.get_submodule(name).parameters()))


def _operations(graph: fx.Graph) -> dict[str, list[tuple[str, Any]]]:
    found: dict[str, list[tuple[str, Any]]] = {}
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {"": ("",)}
        name = list(stack.values())[-1][0]
        if node.target != name:
            found.setdefault(name, []).append((node.op, node.target))
    return found


@contextmanager
def _in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    with evaluating(model):
        for part in model.modules():
            part.training = training
        yield


def _expand_blocks(graph: fx.Graph, model: nn.Module) -> None:
    for node in list(graph.nodes):
        block = _BLOCKS.get(type(model.get_submodule(node.target))) if node.op == "call_module" else None
        if block is None:
            continue
        owner, (x, *_) = model.get_submodule(node.target), node.args
        with graph.inserting_before(node):
            out = x
            for name in block.branch:
                out = graph.call_module(f"{node.target}.{name}", (out,))
            shortcut = block.shortcut if block.shortcut and getattr(owner, block.shortcut) is not None else None
            passed = graph.call_module(f"{node.target}.{shortcut}", (x,)) if shortcut else x
            added = graph.call_function(torch.add, (passed, out))
            if block.activation:
                added = graph.call_module(f"{node.target}.{block.activation}", (added,))
        node.replace_all_uses_with(added)
        graph.erase_node(node)


# --- measuring --------------------------------------------------------------------------------------------------


class _Measuring(fx.Interpreter):
    """Runs a graph and notes for each node its shape and multiply-adds."""

    def __init__(self, root: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(root)
        self.counter = counter
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.macs: dict[str, int] = {}

    def run_node(self, node: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        result = super().run_node(node)
        self.macs[node.name] = (self.counter.get_total_flops() - before) // 2
        if isinstance(result, Tensor):
            self.shapes[node.name] = tuple(result.shape)
        return result


@dataclass(frozen=True)
class Measured:
    """By the names of nodes: shapes of tensors, and multiply-adds of one input (the batch's, divided by its size)."""

    shapes: dict[str, tuple[int, ...]]
    macs: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.macs.values())


def measure(model: nn.Module, graph: fx.Graph, example: Tensor) -> Measured:
    """Run the evaluation graph on an example batch. Raises LayerpruneError where the model does not take it."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # whose multiply-adds nobody counts
    counter = FlopCounterMode(display=False)
    try:
        with evaluating(model), torch.no_grad(), counter:
            runner = _Measuring(fx.GraphModule(model, graph), counter)
            runner.run(example)
    except RuntimeError as error:
        raise LayerpruneError(
            f"{type(model).__name__}: does not take the example input of shape {list(example.shape)}: "
            f"{str(error).strip().splitlines()[0][:160]}"
        ) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    size = max(1, len(example))
    return Measured(runner.shapes, {name: math.ceil(macs / size) for name, macs in runner.macs.items()})
