"""Examples of what a model takes: a tensor, a tuple of arguments, or a dictionary (arguments by name, or one of them).

A dictionary whose keys are names of the forward method's parameters is given by name, as Hugging Face's models take
it; any other is the one argument.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from layerprune.errors import LayerpruneError


def call(model: nn.Module, example: Any) -> Any:
    """What the model returns of an example."""
    if isinstance(example, tuple):
        return model(*example)
    return model(**example) if is_named(model, example) else model(example)


def is_named(model: nn.Module, example: Any) -> bool:
    """Whether an example's keys are names of arguments."""
    if not isinstance(example, dict) or not all(isinstance(name, str) for name in example):
        return False
    known = inspect.signature(model.forward).parameters.values()
    names = {each.name for each in known}
    return all(name in names for name in example) or (
        len(names & example.keys()) > 0 and any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known)
    )


def tensors(example: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(_plain(example)) if isinstance(each, Tensor)]


def batch_size(example: Any) -> int:
    """The first size of the first tensor. Raises LayerpruneError without one."""
    found = [each for each in tensors(example) if each.dim() > 0]
    if not found:
        raise LayerpruneError("the example input holds no tensor with a batch dimension")
    return len(found[0])


def leader(model: nn.Module, example: Any) -> str | None:
    """The argument whose first size is the batch's: of those with the first tensor's the one with the largest tensor.

    A size alone does not tell: a time step or a table of positions may come first in one call, and last in another.
    """
    size, bound = batch_size(example), _bound(model, example)
    sizes = {
        name: max((each.dim(), each.numel()) for each in tensors(value) if each.dim() > 0 and len(each) == size)
        for name, value in bound.items()
        if any(each.dim() > 0 and len(each) == size for each in tensors(value))
    }
    return max(sizes, key=sizes.get, default=None)


def batch_size_of_call(model: nn.Module, inputs: tuple, named: dict, leading: str | None) -> int:
    """That of what a forward pass gets, by the argument that `leader` has named, if it is there."""
    found = _arguments(model, inputs, named).get(leading)
    return batch_size(found if found is not None and tensors(found) else (inputs, named))


def _bound(model: nn.Module, example: Any) -> dict[str, Any]:
    if isinstance(example, tuple):
        return _arguments(model, example, {})
    return _arguments(model, (), dict(example)) if is_named(model, example) else _arguments(model, (example,), {})


def _arguments(model: nn.Module, inputs: tuple, named: dict) -> dict[str, Any]:
    """By the names of the forward method's parameters; nothing where they do not fit."""
    try:
        bound = inspect.signature(model.forward).bind(*inputs, **named)
    except (TypeError, ValueError):
        return {}
    rest = [each.name for each in bound.signature.parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
    found = dict(bound.arguments)
    for name in rest:
        found |= found.pop(name, {})
    return found


def doubled(example: Any) -> Any:
    """The example twice: every tensor whose first size is the batch's."""
    size = batch_size(example)

    def twice(each: Any) -> Any:
        is_batch = isinstance(each, Tensor) and each.dim() > 0 and len(each) == size
        return torch.cat([each, each]) if is_batch else each

    return pytree.tree_map(twice, _plain(example))


def copied(example: Any) -> Any:
    """The example with tensors of its own, for models that work in place on what they are given."""
    return pytree.tree_map(lambda each: each.clone() if isinstance(each, Tensor) else each, _plain(example))


def moved(example: Any, device: torch.device) -> Any:
    """The example on a device."""
    return pytree.tree_map(lambda each: each.to(device) if isinstance(each, Tensor) else each, _plain(example))


def precision_of(model: nn.Module) -> torch.dtype | None:
    """The one type of the model's weights; None if they have several, or there are none."""
    found = {each.dtype for each in model.parameters() if each.is_floating_point()}
    return found.pop() if len(found) == 1 else None


def in_precision(example: Any, before: torch.dtype | None, now: torch.dtype | None) -> Any:
    """The example for a model whose weights have been cast: tensors in its former type follow, all others stay."""
    if before is None or now is None or before == now:
        return example

    def cast(each: Any) -> Any:
        return each.to(now) if isinstance(each, Tensor) and each.dtype == before else each

    return pytree.tree_map(cast, _plain(example))


def shape_of(example: Any) -> str:
    shapes = [list(each.shape) for each in tensors(example)]
    return str(shapes[0]) if len(shapes) == 1 else str(shapes)


def _plain(example: Any) -> Any:
    """A subclass of dict (Hugging Face's BatchEncoding) as a dict."""
    return dict(example) if hasattr(example, "keys") and hasattr(example, "items") else example
