"""Records what a model computes from one example while it runs: nothing is traced, rewritten or left out.

The model runs unchanged. A torch function mode notes every operation on tensors, its inputs and its module, so it
follows whatever a forward method does in Python (contexts, sizes, loops, checkpoints). Afterwards buffers, attributes
that forward methods write, modes and random generators are as they were.
"""

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from layerprune.errors import LayerpruneError
from layerprune.library.examples import call, copied, precision_of, shape_of
from layerprune.library.multiply_adds import MultiplyAdds
from layerprune.library.places import Argument, Place, arguments_by_name, arguments_by_position, places_in

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Transformer, nn.TransformerEncoder)
_COMPOSED = (nn.TransformerDecoder, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_ONE_AT_A_TIME = threading.RLock()
"""Of threads: the compiler's stance and Function.apply are the whole process's, and are put back in turn."""
_OF_TORCH = ("torch/overrides.py", "torch/_tensor.py", "torch/utils/_contextlib.py", "library/absence.py")


@dataclass(eq=False, repr=False)
class Node:
    """A tensor's value: an input of the model, a weight or buffer, or the output of an operation.

    `kind` is "input", "weight", "constant" (of unknown origin) or "call"; `name` a weight's path or the function's
    name. `path` is that of the innermost module at work, `inside` are those of all modules around, outermost first.
    """

    index: int
    kind: str
    name: str
    inputs: tuple["Node", ...] = ()
    operands: tuple["Node | None", ...] = ()
    """Of the first two arguments, in order; None for what is no tensor."""
    operand_ids: tuple[int, ...] = ()
    operand_shapes: tuple[tuple[int, ...], ...] = ()
    path: str = ""
    inside: tuple[int, ...] = ()
    """Numbers of the calls of modules that were under way."""
    leaf: str | None = None
    """Path of the layer of torch.nn that computed it."""
    shape: tuple[int, ...] = ()
    macs: int = 0
    site: "Site | None" = None
    storage: int = 0
    chooses: bool = False
    """Whether how many values it has depends on what the inputs hold."""
    overwrites: frozenset[int] = frozenset()
    """Storages that the operation changed in place."""
    users: list["Node"] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.leaf or self.name


@dataclass(frozen=True)
class Site:
    """The position of an operation in Python code: instruction `place` of `code`.

    It was met for the `turn`-th time in this call of a module, and for the `passage`-th time in all. `caller` is where
    that code was called.
    """

    code: CodeType
    place: int
    turn: int
    passage: int
    caller: tuple[CodeType, int] | None = None


def instruction(depth: int) -> tuple[CodeType, int] | None:
    """The code and the instruction that is calling, so many frames up, and not counting torch's own wrappers."""
    return _place_of(_outside_torch(sys._getframe(depth)))


def _outside_torch(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_code.co_filename.endswith(_OF_TORCH):
        frame = frame.f_back
    return frame


def _place_of(frame: FrameType | None) -> tuple[CodeType, int] | None:
    return (frame.f_code, _first_alike(frame.f_code)[frame.f_lasti // 2]) if frame is not None else None


@lru_cache(maxsize=1024)
def _first_alike(code: CodeType) -> list[int]:
    """For each instruction the first of its expression: Python 3.11 calls by one of two as it warms up."""
    first: dict[Any, int] = {}
    positions = enumerate(code.co_positions())
    return [2 * (place if None in where else first.setdefault(where, place)) for place, where in positions]


@dataclass(eq=False, repr=False)
class ModuleCall:
    """One call of a module: what went in and what came out, as trees whose tensors are `(node, tensor's id)`."""

    number: int
    path: str
    module: nn.Module
    inputs: list[Any]
    arguments: list[Argument] = field(default_factory=list)
    """Where each of the inputs is in the call."""
    outputs: list[Any] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    """Where each of the outputs, tensor or not, is in what was returned."""
    layout: Any = None
    start: int = 0
    end: int = -1
    """Numbers of nodes when it was called and when it returned."""
    order: int = -1
    """Number of calls that had returned by then."""


class Recording:
    """All nodes in the order of the computation, all calls of modules, and the nodes that the model returned."""

    def __init__(self, model: nn.Module) -> None:
        self.nodes: list[Node] = []
        self.calls: list[ModuleCall] = []
        self.returned: set[Node] = set()
        self.kept: dict[Node, str] = {}
        """Nodes whose tensors stayed behind as attributes of modules, with the attributes' paths."""
        self.dtype = precision_of(model)
        """Of the model when it was recorded; None if its weights have several."""
        self.read: set[Node] = set()
        """Nodes whose numbers the model's code has taken for sizes or places."""
        self.functions: set[str] = set()
        """Names of the subclasses of torch.autograd.Function that were applied."""
        self.paths = {id(module): path for path, module in reversed(list(model.named_modules(remove_duplicate=False)))}

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    @cached_property
    def calls_by_path(self) -> dict[str, list[ModuleCall]]:
        found: dict[str, list[ModuleCall]] = {}
        for each in self.calls:
            found.setdefault(each.path, []).append(each)
        return found

    def calls_of(self, path: str) -> list[ModuleCall]:
        return self.calls_by_path.get(path, [])

    @cached_property
    def varying(self) -> set[Node]:
        """Nodes that depend on an input of the model."""
        found: set[Node] = set()
        for node in self.nodes:
            if node.kind == "input" or not found.isdisjoint(node.inputs):
                found.add(node)
        return found

    @cached_property
    def leading_nowhere(self) -> set[Node]:
        """Operations whose results nobody uses, as the count of batches."""
        found: set[Node] = set()
        for node in reversed(self.nodes):
            if (
                node.kind == "call"
                and node not in self.returned
                and node not in self.kept
                and found.issuperset(node.users)
            ):
                found.add(node)
        return found

    @cached_property
    def operations_inside(self) -> Counter[int]:
        """How many operations that matter each call of a module made, by its number."""
        nodes = [node for node in self.nodes if node.kind == "call" and node not in self.leading_nowhere]
        return Counter(number for node in nodes for number in node.inside)


def record(model: nn.Module, example: Any, training: bool = False) -> Recording:
    """Run the model on an example in a mode, and say what it did.

    Raises LayerpruneError where the model does not take the example.
    """
    recording = Recording(model)
    recorder = _Recorder(model, recording)
    example = copied(example)
    with undisturbed(model) as kept, in_mode(model, training), eager(), torch.enable_grad():
        for tensor in tensors_of(example):
            recorder.produce(tensor, recorder.add("input", "input"))
        try:
            with recorder.watching(), recorder.counter, recorder:  # without torch's fast path, which hides additions
                output = call(model, example)
        except LayerpruneError:
            raise
        except Exception as error:  # whatever the model raises for what it does not take
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise LayerpruneError(
                f"{type(model).__name__}: does not accept the example input of shape {shape_of(example)}: {reason}"
            ) from None
        recording.returned = {node for each in tensors_of(output) if (node := recorder.node_of(each)) is not None}
        for name, value in kept():
            recording.kept.update(
                {node: name for each in tensors_of(value) if (node := recorder.node_of(each)) is not None}
            )
    return recording


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in what functions take and return: tuples, lists, dictionaries, dataclasses."""
    return [each for each in _leaves(value) if isinstance(each, Tensor)]


def _leaves(value: Any) -> list[Any]:
    found = []
    for each in pytree.tree_leaves(value):
        if isinstance(each, Tensor | str | int | float | bool) or each is None:
            found.append(each)
        elif isinstance(each, dict):  # a subclass that torch does not know
            found.extend(leaf for one in each.values() for leaf in _leaves(one))
        elif hasattr(each, "__dataclass_fields__"):
            found.extend(leaf for name in each.__dataclass_fields__ for leaf in _leaves(getattr(each, name, None)))
        else:
            found.append(each)
    return found


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, recording: Recording) -> None:
        super().__init__()
        self.recording, self.counter = recording, MultiplyAdds(of_shapes=False)
        self._thread = threading.get_ident()
        self._told = 0  # multiply-adds that operations have been said to take
        self._stack: list[ModuleCall] = []
        self._returned = 0
        self._producers: dict[int, Node] = {}
        self._alive: dict[int, Tensor] = {}  # or their ids would be given to others
        self._aliases: dict[int, list[int]] = {}
        self._turns: dict[tuple, int] = {}
        named = [*model.named_buffers(remove_duplicate=False), *model.named_parameters(remove_duplicate=False)]
        self._weights = {id(each): name for name, each in reversed(named)}

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_of((args, kwargs))
        if getattr(function, "__name__", "") in ("tolist", "__index__"):
            self.recording.read.update(map(self._input, given))
        versions = [_version(each) for each in given]
        before, site = self.counter.total, self._site()
        result = function(*args, **kwargs)
        macs = self._taken(since=before)
        changed = [each for each, version in zip(given, versions, strict=True) if _version(each) != version]
        returned = tensors_of(result)
        fresh = [each for each in returned if not any(each is one for one in given)]
        if not fresh and not changed:  # a size was asked for, or it did nothing, as dropout in evaluation
            return result
        node = self.add(
            "call",
            getattr(function, "__name__", str(function)),
            inputs=tuple(dict.fromkeys(map(self._input, given))),
            operands=tuple(self._input(each) if isinstance(each, Tensor) else None for each in args[:2]),
            operand_ids=tuple(map(id, args[:2])),
            operand_shapes=tuple(tuple(each.shape) for each in args[:2] if isinstance(each, Tensor)),
            macs=macs,
            site=site,
            chooses=_chooses(function, args),
        )
        node.overwrites = frozenset(map(_storage, changed))
        for tensor in changed:
            self._overwritten(tensor, node)
        for tensor in (*fresh, *(each for each in returned if any(each is one for one in changed))):
            self.produce(tensor, node)
        if len(returned) == 1:
            node.shape, node.storage = tuple(returned[0].shape), _storage(returned[0])
        return result

    def _taken(self, since: int | None = None) -> int:
        """Multiply-adds of an operation: what has been counted since it began, or else what nobody was said to take."""
        taken = self.counter.total - (self._told if since is None else since)
        self._told += taken
        return taken

    def add(self, kind: str, name: str, inputs: tuple[Node, ...] = (), **more: Any) -> Node:
        top = self._stack[-1] if self._stack else None
        leaf = top.path if top is not None and is_leaf(top.module) else None
        inside = tuple(each.number for each in self._stack)
        path = top.path if top is not None else ""
        node = Node(len(self.recording.nodes), kind, name, inputs, path=path, inside=inside, leaf=leaf, **more)
        for each in inputs:
            each.users.append(node)
        self.recording.nodes.append(node)
        return node

    def produce(self, tensor: Tensor, node: Node) -> None:
        self._producers[id(tensor)] = node
        if id(tensor) not in self._alive:
            self._alive[id(tensor)] = tensor
            self._aliases.setdefault(_storage(tensor), []).append(id(tensor))
        if node.kind != "call":
            node.shape, node.storage = tuple(tensor.shape), _storage(tensor)

    def node_of(self, tensor: Tensor) -> Node | None:
        return self._producers.get(id(tensor))

    def _input(self, tensor: Tensor) -> Node:
        """The node of a tensor. What has a gradient and comes from nowhere was made in C++ from what a module got."""
        if id(tensor) not in self._producers:
            name = self._weights.get(id(tensor))
            if name is not None:
                self.produce(tensor, self.add("weight", name))
            elif tensor.grad_fn is not None and self._stack:
                given = [each for each, _ in self._stack[-1].inputs if each is not None]
                self.produce(tensor, self.add("call", "opaque", tuple(dict.fromkeys(given)), macs=self._taken()))
            else:
                self.produce(tensor, self.add("constant", "constant"))
        return self._producers[id(tensor)]

    def _overwritten(self, tensor: Tensor, node: Node) -> None:
        """What shares its memory with a tensor that was changed in place has changed too."""
        for other in self._aliases.get(_storage(tensor), []):
            old = self._producers[other]
            if self._alive[other] is tensor or old is node:
                self._producers[other] = node
            elif old.kind != "weight":
                new = self.add("call", "alias", (old, node))
                new.shape, new.storage = old.shape, old.storage
                self._producers[other] = new

    def _site(self) -> Site | None:
        frame = _outside_torch(sys._getframe(2))
        if frame is None:
            return None
        here = _place_of(frame)
        here_in_call = (self._stack[-1].number if self._stack else -1, *here)
        for key in (here, here_in_call):
            self._turns[key] = self._turns.get(key, 0) + 1
        return Site(*here, self._turns[here_in_call] - 1, self._turns[here] - 1, _place_of(frame.f_back))

    # --- modules and autograd functions ---------------------------------------------------------------------

    def _is_of_others(self) -> bool:
        """Whether another thread calls: torch's hooks on all modules hear of whatever else the process trains."""
        return threading.get_ident() != self._thread

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for handle in (
                modules.register_module_forward_pre_hook(self._enter),
                modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True),
            ):
                # Of a hook that is removed torch keeps a note, and warns of it wherever a model is compiled.
                stack.callback(modules._global_forward_hooks_with_kwargs.pop, handle.id, None)
                stack.callback(handle.remove)
            stack.enter_context(_autograd_functions(self))
            yield

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        if self._is_of_others():
            return
        path = self.recording.paths.get(id(module), "")
        with torch._C.DisableTorchFunction():
            given = [(self._input(each), id(each)) for each in tensors_of(inputs)]
        arguments = _as_many(arguments_by_position(module, inputs), given)
        made = ModuleCall(len(self.recording.calls), path, module, given, arguments, start=len(self.recording.nodes))
        self.recording.calls.append(made)
        self._stack.append(made)

    def _leave(self, module: nn.Module, inputs: tuple, named: Any, *output: Any) -> None:
        """Where a forward method has raised an error, torch tells no output, and nothing of arguments by name."""
        if self._is_of_others() or not any(each.module is module for each in self._stack):
            return
        while self._stack:
            left = self._stack.pop()
            if left.module is module:
                break
        if output:
            self._returned_from(left, named, *output)

    def _returned_from(self, left: ModuleCall, named: dict, output: Any) -> None:
        with torch._C.DisableTorchFunction():  # torch tells arguments by name only now
            by_name = [(self._input(each), id(each)) for each in tensors_of(named)]
            first = len(left.inputs)
            left.arguments += _as_many(arguments_by_name(left.module, named, first), by_name, first)
            left.inputs += by_name
        self._opaque(left, output)
        leaves, left.layout = pytree.tree_flatten(output)
        left.outputs = [self._output(each) for each in leaves]
        left.places = places_in(output)
        left.end, left.order = len(self.recording.nodes), self._returned
        self._returned += 1

    def _output(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.node_of(leaf), id(leaf)
        return 0.0 if isinstance(leaf, tuple) else leaf  # of a kind unknown to torch: no more to be told than a number

    def _opaque(self, left: ModuleCall, output: Any) -> None:
        """What a layer has made of its inputs and weights without a function that is seen, as torch.nn.LSTM."""
        made = [each for each in tensors_of(output) if id(each) not in self._producers and each.grad_fn is not None]
        if made:
            with torch._C.DisableTorchFunction():
                weights = map(self._input, left.module.parameters())
                inputs = dict.fromkeys([*(node for node, _ in left.inputs), *weights])
            self._stack.append(left)
            node = self.add("call", "opaque", tuple(inputs), macs=self._taken())
            self._stack.pop()
            for each in made:
                self.produce(each, node)
            node.shape, node.storage = tuple(made[0].shape), _storage(made[0])

    def applied(self, function: Any, given: Sequence[Any], result: Any) -> None:
        """An autograd.Function, whose forward method may have been seen or not."""
        if self._is_of_others():
            return
        self.recording.functions.add(function.__name__)
        with torch._C.DisableTorchFunction():
            inputs = tuple(dict.fromkeys(map(self._input, tensors_of(given))))
            node = self.add("call", function.__name__, inputs, macs=self._taken())
            for tensor in tensors_of(result):
                self.produce(tensor, node)
                node.shape, node.storage = tuple(tensor.shape), _storage(tensor)


@contextmanager
def _autograd_functions(recorder: _Recorder) -> Iterator[None]:
    kind = torch.autograd.Function
    original = kind.__dict__["apply"]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        result = original.__func__(cls, *args, **kwargs)
        recorder.applied(cls, (args, kwargs), result)
        return result

    kind.apply = classmethod(apply)
    try:
        yield
    finally:
        kind.apply = original


def _as_many(arguments: list[Argument], given: Sequence[Any], first: int = 0) -> list[Argument]:
    """The arguments, if there is one for each tensor that was given; else their numbers alone."""
    if len(arguments) == len(given):
        return arguments
    return [Argument(number) for number in range(first, first + len(given))]


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is a layer, of torch.nn or another library's batch norm."""
    of_torch = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    layer = of_torch or isinstance(module, nn.modules.batchnorm._BatchNorm)
    return layer and not isinstance(module, _CONTAINERS + _COMPOSED)


def _chooses(function: Callable, args: tuple) -> bool:
    """Whether a function takes values out by a mask, or tells where they are."""
    name = getattr(function, "__name__", "")
    if name == "__getitem__":
        return any(each.dtype in (torch.bool, torch.uint8) for each in tensors_of(args[1:]))
    if name == "repeat_interleave":
        return any(not each.is_floating_point() for each in tensors_of(args[1:]))
    return name in ("nonzero", "argwhere", "masked_select", "unique") or (name == "where" and len(args) == 1)


def _version(tensor: Tensor) -> int:
    return tensor._version if not tensor.is_inference() else 0


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)


# --- the model is as it was -------------------------------------------------------------------------------------


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[Callable[[], list[tuple[str, Any]]]]:
    """Put back afterwards whatever forward methods change: buffers, attributes, random generators.

    Gives a function that lists what has been written to attributes, by their paths.
    """
    named = [(name, each) for name, each in model.named_modules() if not isinstance(each, torch.jit.ScriptModule)]
    attributes = [(module, dict(vars(module)), _contents(module)) for _, module in named]
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    registered = [(module, dict(module._buffers)) for _, module in named]

    def written() -> list[tuple[str, Any]]:
        found = []
        for (path, module), (_, before, _) in zip(named, attributes, strict=True):
            changed = {name: value for name, value in vars(module).items() if before.get(name) is not value}
            kept = {name: value for name, value in vars(module).items() if isinstance(value, list | dict)}
            found += [(f"{path}.{name}".lstrip("."), value) for name, value in (kept | changed).items() if _own(name)]
        return found

    with torch.random.fork_rng(), _same_numbers(named):
        try:
            yield written
        finally:
            for module, before, contents in attributes:
                vars(module).clear()
                vars(module).update(before)
                for held, content in contents:
                    held.clear()
                    held.extend(content) if isinstance(held, list) else held.update(content)
            for module, before in registered:
                module._buffers.clear()
                module._buffers.update(before)
            with torch.no_grad():
                for each, value in buffers:
                    if not torch.equal(each, value):
                        each.copy_(value)


@contextmanager
def _same_numbers(named: Sequence[tuple[str, nn.Module]]) -> Iterator[None]:
    """Put back Python's and NumPy's random generators, and those that modules hold."""
    numpy = sys.modules.get("numpy")
    held = [value for _, module in named for value in vars(module).values() if isinstance(value, torch.Generator)]
    states = [(each, each.get_state()) for each in held]
    python, array = random.getstate(), numpy.random.get_state() if numpy is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(array)
        for each, state in states:
            each.set_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """For a while torch's, Python's and NumPy's random generators start from a seed."""
    with torch.random.fork_rng(), _same_numbers([]):
        torch.manual_seed(seed)
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed)
        yield


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _own(name: str) -> bool:
    return name not in _OF_EVERY_MODULE and name != "_layerprune"


_HOOKS = frozenset(name for name in _OF_EVERY_MODULE if "hooks" in name)


def _contents(module: nn.Module) -> list[tuple[Any, Any]]:
    """Lists, dictionaries and sets that a module holds, and what is in them: its hooks, too, since a forward method may
    register some (as those of Transformers do that return hidden states)."""
    held = [value for name, value in vars(module).items() if _own(name) and type(value) in (list, dict, set)]
    held += [value for name, value in vars(module).items() if name in _HOOKS and isinstance(value, dict)]
    return [(each, each.copy()) for each in held]


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """All parts in one mode; afterwards each is back in its own. What a mode's method does besides is not done."""
    modes = [(part, part.training) for part in model.modules()]
    for part, mode in modes:
        if mode != training:
            part.training = training
    try:
        yield
    finally:
        for part, mode in modes:
            if part.training != mode:
                part.training = mode


@contextmanager
def eager() -> Iterator[None]:
    """Nothing that is compiled: torch would go on with what it compiled before hooks and parts were changed.

    One thread at a time.
    """
    with _ONE_AT_A_TIME:
        if "torch._dynamo" not in sys.modules:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield
