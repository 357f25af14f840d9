"""Removes sections from a model, for good or for a while, and blocks that have none left."""

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from layerprune.library.absence import Gone, HandedOn, Removed
from layerprune.library.hooks import is_hooked
from layerprune.library.passages import Passage
from layerprune.library.what_goes import Absence


def take_out(model: nn.Module, absences: Sequence[Absence]) -> None:
    """Replace what goes with sections."""
    for each in absences:
        _take_out(model, each)


def _take_out(model: nn.Module, absence: Absence) -> None:
    for path, output in absence.modules:
        module = model.get_submodule(path)
        for owner, name in _places(model, module):
            owner._modules[name] = _in_its_place(module, output, absence)
    for path in absence.weights:
        owner, _, name = path.rpartition(".")
        module = model.get_submodule(owner)
        weight = (module._parameters if name in module._parameters else module._buffers).pop(name)
        like = torch.empty_like(weight, device="meta") if absence.shaped and weight is not None else None
        vars(module)[name] = Gone(absence.copied, like=like)


def _in_its_place(module: nn.Module, output: Any, absence: Absence) -> Removed:
    if absence.handed_on:
        return HandedOn(module, output, None, absence.copied)
    return Removed(module, output, absence.copied, absence.shaped)


def hand_on(model: nn.Module, passages: Sequence[Passage]) -> None:
    """Replace whole blocks whose sections have gone, but those with hooks of somebody's."""
    for each in passages:
        module = dict(model.named_modules()).get(each.path)
        if module is None or isinstance(module, HandedOn):  # it has gone before, or with a block around it
            continue
        if any(map(is_hooked, module.modules())):
            continue
        for owner, name in _places(model, module):
            owner._modules[name] = HandedOn(module, each.output, each.activation, each.copied)


def _places(model: nn.Module, module: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(owner, name) for owner in model.modules() for name, each in owner._modules.items() if each is module]


@contextmanager
def without(model: nn.Module, absences: Sequence[Absence], passages: Sequence[Passage]) -> Iterator[None]:
    """The model without sections, for a while."""
    kinds = ("_modules", "_parameters", "_buffers")
    parts = [part for part in model.modules() if not isinstance(part, torch.jit.ScriptModule)]  # which nothing changes
    before = [(part, [dict(getattr(part, kind)) for kind in kinds], set(vars(part))) for part in parts]
    try:
        take_out(model, absences)
        hand_on(model, passages)
        yield
    finally:
        for part, held, names in before:
            for kind, content in zip(kinds, held, strict=True):
                getattr(part, kind).clear()
                getattr(part, kind).update(content)
            for name in set(vars(part)) - names:
                del vars(part)[name]


def parameters_of(model: nn.Module, owned: Sequence[str]) -> list[nn.Parameter]:
    """Those of modules and weights, by their paths."""
    found: dict[int, nn.Parameter] = {}
    for name in owned:
        each = operator.attrgetter(name)(model)
        for one in each.parameters() if isinstance(each, nn.Module) else [each]:
            if isinstance(one, nn.Parameter):
                found[id(one)] = one
    return list(found.values())
