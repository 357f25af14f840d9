"""All that a pass through a model leaves behind, to be compared bit for bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.library.examples import call
from layerprune.library.recording import tensors_of

_OF_EVERY_MODULE = set(vars(nn.Module()))


def seen(model: nn.Module, example: Any, training: bool) -> dict[str, Any]:
    """Outputs, gradients, buffers, attributes, calls of hooks and the next random number of one pass."""
    calls: list[str] = []
    handles = [
        each.register_forward_hook(lambda module, inputs, output, name=name: calls.append(name))
        for name, each in model.named_modules()
    ]
    model.train(training).zero_grad()
    torch.manual_seed(1)
    outputs = tensors_of(call(model, example))
    if training:
        floating = [each for each in outputs if each.requires_grad]
        sum(each.float().square().mean() for each in floating).backward()
    for handle in handles:
        handle.remove()
    return {
        "outputs": outputs,
        "gradients": {name: each.grad for name, each in model.named_parameters()},
        "buffers": {name: each.clone() for name, each in model.named_buffers()},
        "attributes": {name: attributes(each) for name, each in model.named_modules()},
        "hooks": calls,
        "random": torch.rand(1),
    }


def attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds in plain attributes: tensors, numbers, names."""
    names = vars(module).keys() - _OF_EVERY_MODULE
    found = {name: vars(module)[name] for name in names if not name.startswith("_layerprune")}
    return {name: value for name, value in found.items() if isinstance(value, Tensor | int | float | str)}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two passes differ."""
    return [name for name in one if not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        equal = one.shape == other.shape and one.dtype == other.dtype
        return equal and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return one == other
