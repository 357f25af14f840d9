"""Which of a module's arguments a tensor is, and where in it: not merely which of all tensors.

Whoever calls a module may pass an argument by its name or by its position, leave out an optional one before it, or fill
a dictionary in another order than the example did.
"""

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from layerprune.errors import LayerpruneError

KINDS = ("item", "attribute", "leaf")
Steps = tuple[tuple[str, Any], ...]
"""From a tree to a value in it: ("item", its key or number), ("attribute", its name), ("leaf", its number)."""


class Place(int):
    """Where a value is in a tree: the ways to it (a module may return another tree in training), beside its number
    among all leaves, which alone is known in pickles of before."""

    ways: tuple[Steps, ...]

    def __new__(cls, number: int, ways: Sequence[Steps] = ()) -> "Place":
        made = super().__new__(cls, number)
        made.ways = tuple(dict.fromkeys(ways))
        return made

    def __reduce__(self) -> tuple:
        return type(self), (int(self), self.ways)

    def joined(self, other: "Place") -> "Place":
        """The same place in another tree, too."""
        return Place(self, (*self.ways, *other.ways))

    def of(self, tree: Any) -> Any:
        """The tensor there; the only one, if there is one; None if there is none. Raises LayerpruneError if there are
        several, and no way leads to one."""
        if not self.ways:
            return pytree.tree_leaves(tree)[self]
        for steps in self.ways:
            with suppress(*_ELSEWHERE):
                if is_value(found := _followed(tree, steps)):
                    return found
        values = _values((), {"": tree})
        if len(values) < 2:
            return values[0] if values else None
        told = " or ".join(_told(steps) or "as a whole" for steps in self.ways)
        raise LayerpruneError(
            f"a block that is gated puts out a tensor, {told}, as the example has it; this output has others"
        )

    def changed(self, tree: Any, change: Callable[[Any], Any]) -> Any:
        """The tree with another value there; the tree itself where the value stays the same."""
        value = self.of(tree)
        made = change(value)
        return tree if made is value else pytree.tree_map(lambda each: made if each is value else each, tree)


FIRST = Place(0)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a forward method: `name`, unless it is one of *args; `position`, unless it has only a name."""

    name: str | None
    position: int | None


class Argument(int):
    """A tensor that a module is called with: `parameter`, and the steps from that argument to the tensor.

    As a number it is its place among all tensors of the call, which alone is known in files of before.
    """

    parameter: Parameter | None
    steps: Steps

    def __new__(cls, number: int, parameter: Parameter | None = None, steps: Steps = ()) -> "Argument":
        made = super().__new__(cls, number)
        made.parameter, made.steps = parameter, steps
        return made

    @classmethod
    def like(cls, other: "Argument") -> "Argument":
        return cls(int(other), other.parameter, other.steps)

    def __reduce__(self) -> tuple:
        return type(self), (int(self), self.parameter, self.steps)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Argument) and self.parameter and other.parameter:
            return (self.parameter, self.steps) == (other.parameter, other.steps)
        return int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__

    @property
    def is_first(self) -> bool:
        """Whether it is the first argument, as a whole, where that is given by position."""
        known = self.parameter is not None
        return self.parameter.position == 0 and not self.steps if known else int(self) == 0

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The tensor, or what stands for one. Raises LayerpruneError where a call lacks it."""
        if self.parameter is None:
            return _values(args, kwargs)[self]
        name, position = self.parameter.name, self.parameter.position
        try:
            return _followed(kwargs[name] if name in kwargs else args[position], self.steps)
        except _ELSEWHERE:
            if None in (name, position) and len(values := _values(args, kwargs)) == 1:  # one of *args, now by a name
                return values[0]
            told = f"'{name}'" if name else f"number {position + 1}"
            within = _told(self.steps)
            raise LayerpruneError(
                f"a block that is passed over hands on its argument {told}{within and ' '}{within}, as the example "
                "has it, and this call has none"
            ) from None


def arguments_by_position(module: nn.Module, args: Sequence[Any]) -> list[Argument]:
    """Of all tensors among the arguments that were given by position."""
    names = _positional(module)
    found = []
    for position, value in enumerate(args):
        parameter = Parameter(names[position] if position < len(names) else None, position)
        found += [(parameter, steps) for steps, _ in located(value)]
    return [Argument(number, *each) for number, each in enumerate(found)]


def arguments_by_name(module: nn.Module, kwargs: Mapping[str, Any], first: int) -> list[Argument]:
    """Of all tensors among the arguments that were given by name; the first has this number."""
    names = _positional(module)
    found = []
    for name, value in kwargs.items():
        parameter = Parameter(name, names.index(name) if name in names else None)
        found += [(parameter, steps) for steps, _ in located(value)]
    return [Argument(number, *each) for number, each in enumerate(found, first)]


def places_in(tree: Any) -> list[Place]:
    """Of all leaves of a tree, tensors or not."""
    steps: dict[int, Steps] = {}
    for way, each in located(tree):
        steps.setdefault(id(each), way)
    leaves = enumerate(pytree.tree_leaves(tree))
    return [Place(number, [steps[id(each)]] if id(each) in steps else ()) for number, each in leaves]


def located(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Tensor]]:
    """All tensors in what functions take and return, and the steps to them, in the order of `recording.tensors_of`."""
    if isinstance(value, Tensor):
        yield steps, value
        return
    for step, each in _within(value):
        yield from located(each, (*steps, step))


def _within(value: Any) -> Iterator[tuple[tuple[str, Any], Any]]:
    if isinstance(value, dict):
        yield from ((("item", key), each) for key, each in value.items())
    elif type(value) in (list, tuple, deque) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        yield from ((("item", number), each) for number, each in enumerate(value))
    elif not pytree.tree_structure(value).is_leaf():  # a kind of tree that somebody has told torch of
        yield from ((("leaf", number), each) for number, each in enumerate(pytree.tree_leaves(value)))
    elif hasattr(value, "__dataclass_fields__"):
        yield from ((("attribute", name), getattr(value, name, None)) for name in value.__dataclass_fields__)


def _followed(value: Any, steps: Steps) -> Any:
    for kind, each in steps:
        if isinstance(value, Tensor):  # its rows are not meant
            raise LookupError(each)
        if kind == "item":
            value = value[each]
        else:
            value = getattr(value, each) if kind == "attribute" else pytree.tree_leaves(value)[each]
    return value


def _told(steps: Steps) -> str:
    """For people: at [0].name"""
    within = "".join(f"[{each!r}]" if kind == "item" else f".{each}" for kind, each in steps)
    return within and f"at {within}"


_ELSEWHERE = (LookupError, TypeError, AttributeError)


def _values(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    return [each for each in pytree.tree_leaves((args, kwargs)) if is_value(each)]


def _positional(module: nn.Module) -> list[str | None]:
    """Names of the parameters of a forward method that may be given by position; None for those that may not be by
    name."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # of a kind that says nothing of itself
        return []
    given = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [None if each.kind is each.POSITIONAL_ONLY else each.name for each in given]


def is_value(each: Any) -> bool:
    """A tensor, or what stands for one: Gone, or a proxy of a tracer."""
    return hasattr(each, "__torch_function__")
