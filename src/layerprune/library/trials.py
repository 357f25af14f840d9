"""Sections on trial: whether a model computes and trains without them, and whether a gate acts on its example alone.

All are closed and removed at once, then every second one; where that fails, one by one.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.measure import evaluating
from layerprune.library import examples
from layerprune.library.found_sections import FoundSection, FoundSections
from layerprune.library.gates import Gates, attach, detach
from layerprune.library.recording import eager, in_mode, tensors_of, undisturbed
from layerprune.library.removal import without


def tried(sections: FoundSections) -> FoundSections:
    """Close and remove all removable sections of the model at once; where that differs, one by one."""
    whole = sections.without_passages()
    for each in (sections, whole, whole.shaped()):
        if all(_why_it_fails(each, some) is None for some in _choices(each)):
            return each
    told = [_each_tried(whole), _each_tried(whole.shaped())]
    return max(told, key=lambda each: len(each.removable))


def _each_tried(sections: FoundSections) -> FoundSections:
    """Without those that may not go alone, as far as the others may go together."""
    reasons = {each.name: _why_it_fails(sections, [each]) for each in sections.removable}
    told = sections.but({name: reason for name, reason in reasons.items() if reason is not None})
    if any(_why_it_fails(told, some) is not None for some in _choices(told)):
        return told.but({each.name: "it cannot go together with others" for each in told.removable})
    return told


def _choices(sections: FoundSections) -> list[Sequence[FoundSection]]:
    """All, and every second one: of two neighbours, either may go alone."""
    chosen = (sections.removable, sections.removable[::2], sections.removable[1::2])
    return [each for each in chosen if each]


def _why_it_fails(sections: FoundSections, chosen: Sequence[FoundSection]) -> str | None:
    """Whether the model computes without sections what it does with their gates closed; None where it does."""
    model, gates = sections.model, Gates(sections.model, len(chosen))
    with undisturbed(model), evaluating(model), eager(), torch.no_grad():
        attach(model, gates, [each.gateway for each in chosen])
        try:
            gates.values[:] = [torch.zeros(1, 1, device=_device(model))] * len(chosen)
            closed = _output(sections)
        except Exception as error:  # whatever the model's code does with zeros
            return f"the model does not run with its gate closed: {_first_line(error)}"
        finally:
            detach(model)
        try:
            names = {each.name for each in chosen}
            blocks = [each for each in sections.passages if each.sections <= names]
            with without(model, [each.absence for each in chosen], blocks):
                left = _output(sections)
                trouble = _trouble_in_training(sections)
        except Exception as error:  # whatever the model's code does with an absent value
            return f"the model does not run without it: {_first_line(error)}"
        if trouble and not _trouble_in_training(sections):
            return f"the model does not train without it: {trouble}"
    return None if _is_close(closed, left) else "the model computes otherwise without it than with its gate closed"


def _trouble_in_training(sections: FoundSections) -> str:
    """What a forward pass in training says that does not end, of twice the batch; empty where it does.

    Code that runs in training alone, such as that of stochastic depth, may ask for what an absent value does not have;
    so may the backward pass of an autograd.Function that runs modules (reversible networks).
    """
    try:
        with in_mode(sections.model, True), torch.random.fork_rng():
            example = examples.copied(examples.doubled(sections.example))
            examples.call(sections.model, example)
            if sections.trace.functions:
                _run_backward(copy.deepcopy(sections.model), example)
    except Exception as error:  # whatever the model's code does with an absent value, or with no targets
        return _first_line(error)
    return ""


def _run_backward(copied: nn.Module, example: Any) -> None:
    """Of a copy: functions may write gradients, and hooks of the model's own may do what they like."""
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = [each.float().sum() for each in tensors_of(examples.call(copied, example)) if each.requires_grad]
        if outputs:
            sum(outputs).backward()


def told_apart(sections: FoundSections) -> FoundSections:
    """Without those whose gates act on other examples than their own."""
    spread = [each for each in sections.removable if each.gateway.spread]
    mixed = [each.name for each in spread if not _is_apart(sections, each)]
    return sections.but(dict.fromkeys(mixed, "examples cannot be told apart in what it adds"))


def _is_apart(sections: FoundSections, chosen: FoundSection) -> bool:
    """Whether the first example alone becomes what it is with the gate closed, where its gate alone is closed."""
    model, gates = sections.model, Gates(sections.model, 1)
    doubled = FoundSections(model, sections.trace, sections.macs, sections, examples.doubled(sections.example))
    gate = torch.ones(examples.batch_size(doubled.example), 1, device=_device(model))
    first = torch.cat([torch.zeros_like(gate[:1]), gate[1:]])
    with undisturbed(model), evaluating(model), eager(), torch.no_grad(), _awake(chosen.parameters(model)):
        attach(model, gates, [chosen.gateway])
        outputs = []
        try:
            for value in (gate, first, 0 * gate):
                gates.values[:] = [value]
                outputs.append([each for each in _output(doubled) if each.dim() > 0 and len(each) == len(gate)])
        finally:
            detach(model)
    opened, mixed, closed = outputs
    expected = [torch.cat([zero[:1], one[1:]]) for zero, one in zip(closed, opened, strict=True)]
    return _is_close(mixed, expected) and not _is_close(mixed, opened)


@contextmanager
def _awake(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """For a while no weight is all zeros: what a branch adds that begins at zero does not tell whose it is."""
    asleep = [(each, each.detach().clone()) for each in weights if each.numel() and not each.any()]
    try:
        for each, _ in asleep:
            each.uniform_(0.5, 1.0)
        yield
    finally:
        for each, value in asleep:
            each.copy_(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _output(sections: FoundSections) -> list[Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tensors_of(examples.call(sections.model, examples.copied(sections.example)))


def _is_close(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(_is_same, one, other))


def _is_same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    size = float(one.detach().abs().nan_to_num().max().clamp(min=1e-6)) if one.numel() else 1.0
    return torch.allclose(one / size, other / size, atol=1e-3 if one.dtype is torch.float32 else 3e-2, equal_nan=True)


def _device(model: nn.Module) -> torch.device:
    return next((each.device for each in model.parameters()), torch.device("cpu"))
