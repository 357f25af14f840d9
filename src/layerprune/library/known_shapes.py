"""A tracer for forward methods that ask their tensors for shapes and types, as those of Hugging Face's models do.

torch.fx's stand-ins of tensors know nothing of themselves. These know the shape and the type of the tensor that an
example batch would give, computed without data (FakeTensorMode), so that the model is neither run nor changed. Sizes
that depend on the size of the batch stay what the graph computes; all others are those of the example.
"""

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

_UNKNOWN = object()
_SIZES = (3, 5)
"""Of two batches: what differs between them depends on the size of the batch."""


class _Known(fx.Proxy):
    """A stand-in that answers what its tensor is like."""

    @property
    def values(self) -> tuple[Any, Any]:
        """For each batch."""
        return self.tracer.values.get(self.node, (_UNKNOWN, _UNKNOWN))

    @property
    def is_tensor(self) -> bool:
        return all(isinstance(value, Tensor) for value in self.values)

    def __getattr__(self, name: str) -> Any:
        if name in ("dtype", "ndim", "layout", "is_cuda", "is_sparse", "is_nested") and self.is_tensor:
            return getattr(self.values[0], name)
        asked = super().__getattr__(name)
        return self._shape(asked) if name == "shape" and self.is_tensor else asked

    def _shape(self, asked: fx.Proxy) -> tuple[Any, ...]:
        sizes = zip(*(value.shape for value in self.values), strict=True)
        return tuple(one if one == other else asked[place] for place, (one, other) in enumerate(sizes))

    def size(self, *place: int) -> Any:
        if not self.is_tensor:
            return super().__getattr__("size")(*place)
        return self.shape[place[0]] if place else self.shape

    def dim(self) -> Any:
        return self.ndim if self.is_tensor else super().__getattr__("dim")()

    def __bool__(self) -> bool:
        one, other = self.values
        if one is _UNKNOWN or isinstance(one, Tensor) or bool(one) != bool(other):
            return super().__bool__()
        return bool(one)


class KnownShapes:
    """Mixed into a tracer of torch.fx: the model's only input is a tensor like `example`; others keep their defaults.

    `input_name` is that of the parameter of the forward method, once it has been traced.
    """

    def start(self, example: Tensor) -> None:
        self.values: dict[fx.Node, tuple[Any, Any]] = {}
        self.computing = False  # torch.fx's patches of nn.Module have to let values pass meanwhile
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self.mode:
            like = {"dtype": example.dtype, "device": example.device}
            self.examples = tuple(torch.empty(size, *example.shape[1:], **like) for size in _SIZES)

    def create_args_for_root(self, root_fn: Callable, is_module: bool, concrete_args: Any = None) -> tuple:
        self.input_name = next(iter(list(inspect.signature(root_fn).parameters)[1:]))
        proxy = self.create_proxy("placeholder", self.input_name, (), {})
        self.values[proxy.node] = self.examples
        return root_fn, [self.root, proxy]

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        return forward(*args, **kwargs) if self.computing else super().call_module(module, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict) -> Any:
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Known(node, self)

    def create_proxy(self, kind: str, target: Any, args: tuple, kwargs: dict, *rest: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        if kind != "placeholder":
            self.values[proxy.node] = self._computed(proxy.node)
        return proxy

    def create_arg(self, value: Any) -> Any:
        """What models of transformers return is a dataclass and a dictionary."""
        if is_dataclass(value) and isinstance(value, Mapping):
            given = {each.name: getattr(value, each.name) for each in fields(value)}
            kept = {name: self.create_arg(each) for name, each in given.items() if each is not None}
            return self.create_node("call_function", type(value), (), kept)
        return super().create_arg(value)

    def _computed(self, node: fx.Node) -> tuple[Any, Any]:
        self.computing = True
        try:
            with self.mode, torch.no_grad():
                return self._run(node, 0), self._run(node, 1)
        except Exception:  # what cannot be known is an ordinary stand-in
            return _UNKNOWN, _UNKNOWN
        finally:
            self.computing = False

    def _run(self, node: fx.Node, side: int) -> Any:
        args, kwargs = (
            fx.node.map_arg(each, lambda each: self._value(each, side)) for each in (node.args, node.kwargs)
        )
        if node.op == "call_module":
            return self.root.get_submodule(node.target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        if node.op == "call_function":
            return node.target(*args, **kwargs)
        return operator.attrgetter(node.target)(self.root)

    def _value(self, node: fx.Node, side: int) -> Any:
        if node not in self.values and node.op == "get_attr":
            return operator.attrgetter(node.target)(self.root)
        value = self.values[node][side]
        if value is _UNKNOWN:
            raise LookupError(node.name)
        return value
