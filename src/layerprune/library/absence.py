"""What replaces the modules of a removed section: modules that return `Gone`, which an addition ignores.

The model's own code still runs: whatever it computes from absent values is Gone, and x + Gone is x. So a pruned network
is an instance of its own class, with some modules replaced by `Removed`: it can be copied, pickled, trained, exported
and searched for sections again.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from layerprune.library.places import Argument, is_value

ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__isub__", "subtract"}


RELU = "torch.relu"


class Gone:
    """The absent value of a branch.

    `copied` says that the sum has to be a tensor of its own, since it is overwritten later; `dimensions` how many the
    value had, and `type` of number it was, where that is known. `same_as` is the argument, of the module that put it
    out, that had its shape; `other` the place from the end, and the size, where one size was another. `like` is
    a tensor of its shape without numbers, for code that asks for sizes.
    """

    __slots__ = ("copied", "dimensions", "like", "other", "same_as", "type")

    def __init__(
        self,
        copied: bool = False,
        dimensions: int | None = None,
        type: torch.dtype | None = None,
        same_as: Argument | None = None,
        like: Tensor | None = None,
        other: tuple[int, int] | int | None = None,
    ) -> None:
        self.copied, self.dimensions, self.type, self.like = copied, dimensions, type, like
        is_known = same_as is None or isinstance(same_as, Argument)
        self.same_as = same_as if is_known else Argument(same_as)  # pickles of before have its number
        self.other = (-1, other) if isinstance(other, int) else other  # pickles of before have the last size

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if len(args) >= 2 and getattr(function, "__name__", "") in ADDITIONS:
            gone, other = args[:2] if isinstance(args[0], Gone) else args[1::-1]
            return gone._added(other)
        first = args[0] if args and isinstance(args[0], Gone) else _gone_in(args, kwargs)
        return first._itself() if first.like is None else _shaped(function, args, kwargs or {})

    def _added(self, other: Any) -> Any:
        if isinstance(other, Gone) or not is_value(other):
            return self
        if self.like is not None and self.like.shape != other.shape:  # within the branch: a mask, or a bias
            return _shaped(torch.add, (self, other), {})
        return other.clone() if self.copied else other

    def __add__(self, other: Any) -> Any:
        return torch.add(self, other)  # so that whoever watches torch's functions sees it

    __radd__ = add = add_ = __iadd__ = __rsub__ = __add__

    def _itself(self, *args: Any, **kwargs: Any) -> "Gone":
        return self if self.dimensions is None and self.type is None else Gone(self.copied)

    @property
    def ndim(self) -> int:
        return self._known("dimensions") if self.like is None else self.like.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self._known("type") if self.like is None else self.like.dtype

    def _known(self, name: str) -> Any:
        value = getattr(self, name)
        if value is None:
            raise TypeError(f"the {name} of a removed section's output is unknown")
        return value

    def dim(self) -> int:
        return self.ndim

    def __iter__(self) -> Iterator[Any]:
        if self.like is not None:
            return iter(self.unbind(0))
        raise TypeError("the output of a removed section cannot be unpacked")

    def __bool__(self) -> bool:
        raise TypeError("code cannot branch on the output of a removed section")

    def __getattr__(self, name: str) -> Any:
        """Methods of tensors that return tensors; what is known of a shape."""
        if self.like is not None and not name.startswith("_"):
            method = getattr(Tensor, name)
            if callable(method):
                return partial(_method(name), self)
            value = getattr(self.like, name)
            return Gone(self.copied, like=value) if isinstance(value, Tensor) else value
        if name in _VIEWS:
            return self._itself()
        if name in ("chunk", "tensor_split"):
            return lambda count, *rest, **named: (self,) * count
        if name.startswith("_") or not callable(getattr(Tensor, name, None)) or name in _ASKING:
            raise AttributeError(f"the output of a removed section has no '{name}'")
        return self._itself

    def __reduce__(self) -> tuple:
        return Gone, (self.copied, self.dimensions, self.type, self.same_as, self.like, self.other)

    def __fx_create_arg__(self, tracer: Any) -> Any:
        """In graphs of torch.fx, a call that makes it."""
        return tracer.create_node("call_function", gone, (self.copied,), {})


def gone(copied: bool) -> Gone:
    """An absent value, of which nothing else is known."""
    return Gone(copied)


def _method(name: str) -> Any:
    def method(self: Gone, *args: Any, **kwargs: Any) -> Any:
        return self._itself() if self.like is None else _shaped(getattr(Tensor, name), (self, *args), kwargs)

    return method


for _name in ("mul", "rmul", "truediv", "matmul", "rmatmul", "pow", "neg", "getitem", "sub"):
    setattr(Gone, f"__{_name}__", _method(f"__{_name}__"))


def _shaped(function: Any, args: tuple, kwargs: dict) -> Any:
    """What a function returns for values without numbers; Gone where a shape is not known."""
    every = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, Gone)]
    copied = any(each.copied for each in every)
    if any(each.like is None for each in every):
        return Gone(copied)
    bare = pytree.tree_map_only(Gone, lambda each: each.like, (args, kwargs))
    args, kwargs = pytree.tree_map_only(Tensor, lambda each: each.to("meta"), bare)
    return pytree.tree_map_only(Tensor, lambda each: Gone(copied, like=each), function(*args, **kwargs))


def _gone_in(*values: Any) -> Gone:
    return next(each for each in pytree.tree_leaves(values) if isinstance(each, Gone))


_VIEWS = {"T", "mT", "H", "mH", "real", "imag", "data"}
"""Tensors that are attributes of a tensor."""
_ASKING = {"size", "item", "tolist", "numel", "unbind", "split", "max", "min", "topk", "sort", "stride"}


class PassedOn(Argument):
    """A part of a removed module's output: the argument that it passes on."""


@dataclass(frozen=True)
class Zeros:
    """Of what a removed module puts out: zeros of these sizes, and of the argument's `given` where a size is -1."""

    given: Argument
    sizes: tuple[int, ...]

    @classmethod
    def like(cls, given: Argument, shape: Sequence[int], dim: int) -> "Zeros":
        """In a shape that is the input's but for one dimension."""
        return cls(given, tuple(size if place == dim else -1 for place, size in enumerate(shape)))

    @classmethod
    def told(cls, given: Argument, sizes: Any) -> "Zeros":
        """As a file says. Raises ValueError for anything else than numbers, one of which is a size."""
        if any(type(each) is not int for each in sizes) or all(each == -1 for each in sizes):
            raise ValueError("zeros without a size")
        return cls(given, tuple(sizes))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if not isinstance(self.given, Argument):  # pickles of before have its number
            vars(self)["given"] = Argument(self.given)

    def made_of(self, value: Tensor) -> Tensor:
        dim = next(place for place, size in enumerate(self.sizes) if size != -1)
        return torch.zeros_like(value.narrow(dim, 0, 1)).expand(self.sizes)


class Removed(nn.Module):
    """Replaces a removed module; returns Gone where the module returned what its section computed.

    Plain attributes of the module (numbers, names) are kept for code that asks for them; its weights are Gone.
    """

    def __init__(self, module: nn.Module, output: Any, copied: bool, shaped: bool = False) -> None:
        """`output` is the tree of the output: Gone, PassedOn, Zeros, and what is no tensor.

        Where it is `shaped`, what is Gone has the shape of the input that it is the same as.
        """
        super().__init__()
        plain = {name: value for name, value in vars(module).items() if _is_plain(value) and name != "training"}
        vars(self).update(plain)
        self.training = module.training
        self.puts_out, self.is_copied, self.is_shaped = output, copied, shaped
        self._hands_on = any(isinstance(each, PassedOn | Zeros) for each in pytree.tree_leaves(output))
        named = (module.named_parameters, module.named_buffers)
        weights = [pair for each in named for pair in each(recurse=False, remove_duplicate=False)]
        self._weights = {name: Gone(copied, each.dim(), each.dtype) for name, each in weights}
        self._weights |= {name: Removed(each, Gone(copied), copied) for name, each in _children(module)}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self._hands_on and not self.is_shaped:
            return self.puts_out
        output = pytree.tree_map(lambda each: _made_of(each, args, kwargs), self.puts_out)
        return pytree.tree_map_only(Gone, lambda each: _like(each, args, kwargs), output) if self.is_shaped else output

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_weights", {}):
            return self._weights[name]
        return super().__getattr__(name)


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those that are there; unlike named_children, one that has two names has both."""
    return [(name, each) for name, each in module._modules.items() if each is not None]


def _copy_of(module: nn.Module, path: str) -> nn.Module:
    return copy.copy(module.get_submodule(path))


def _made_of(leaf: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if isinstance(leaf, Zeros):
        return leaf.made_of(leaf.given.of(args, kwargs))
    return leaf.of(args, kwargs) if isinstance(leaf, PassedOn) else leaf


def _like(gone: Gone, args: tuple, kwargs: dict[str, Any]) -> Gone:
    if gone.same_as is None or gone.like is not None:
        return gone
    source = gone.same_as.of(args, kwargs)
    if not is_value(source):  # an optional argument
        return Gone(gone.copied, gone.dimensions, gone.type)
    like = source.like if isinstance(source, Gone) else torch.empty_like(source, device="meta")
    if gone.other is not None and like is not None:
        place, size = gone.other
        like = like.new_empty([size if each == like.ndim + place else n for each, n in enumerate(like.shape)])
    return Gone(gone.copied, like=like)


class HandedOn(Removed):
    """Replaces a block that has lost all its sections: passes an input on, through an activation if it has one, or
    returns zeros.

    `copied` says that its output must be a tensor of its own.
    """

    def __init__(self, module: nn.Module, output: Any, put_through: str | None, copied: bool) -> None:
        """`output` is the tree of the output: PassedOn, Zeros, and what is no tensor. `put_through` names the layer of
        the module that is its activation, or RELU."""
        super().__init__(module, output, copied)
        self._is_first = isinstance(output, PassedOn) and output.is_first
        self.put_through = put_through
        self._activation = nn.ReLU() if put_through == RELU else put_through and _copy_of(module, put_through)
        if hasattr(self._activation, "inplace"):
            self._activation.inplace = False  # or it would overwrite what the block was given

    @property
    def is_bare(self) -> bool:
        """Whether it does nothing but hand on."""
        return not self.put_through and not any(isinstance(each, Zeros) for each in pytree.tree_leaves(self.puts_out))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        is_usual = self._is_first and args and isinstance(args[0], Tensor)
        output = args[0] if is_usual else super().forward(*args, **kwargs)
        if self._activation is not None:
            return self._activation(output)
        return pytree.tree_map(_copied, output) if self.is_copied else output


def _copied(each: Any) -> Any:
    return torch.clone(each) if is_value(each) and not isinstance(each, Gone) else each


def _is_plain(value: Any) -> bool:
    return (
        value is None or type(value) in (bool, int, float, str) or (type(value) is tuple and all(map(_is_plain, value)))
    )


def is_pruned(model: nn.Module) -> bool:
    """Whether sections have left a model."""
    return any(isinstance(part, Removed) for part in model.modules())
