"""The comparison at the first training pass: with all gates at 1 a network gives the outputs and gradients that it
gives without gates.

It takes two forward and backward passes more, of the first batch, once. The training run does not notice: buffers,
attributes and random generators are put back, gradients go nowhere, inputs are copied, and hooks of others than torch
are not called.
"""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from layerprune.errors import LayerpruneError
from layerprune.library.gates import Entrance, Gate, Gates, GateValue, detach
from layerprune.library.hooks import is_of_torch
from layerprune.library.recomputation import Passes, first_node, unseen_by_checkpoints
from layerprune.library.recording import eager, tensors_of, undisturbed

Given = tuple[tuple, dict[str, Any]]
"""Arguments of the model, by place and by name."""

_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)
_OURS = (Gate, Entrance, bool)
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of the largest value; both passes run the same kernels


def compare(
    model: nn.Module, gates: Gates, weights: dict[str, Sequence[nn.Parameter]], given: Given, batch: int
) -> None:
    """Raise LayerpruneError, one line, where the network with gates is another one than without.

    `weights` are the sections', by their names in the order of their gates, `given` what the model is about to be
    called with, a batch of so many examples. A network that fails, or differs from itself, cannot be compared: a
    warning says so. Another says what gets no gradient.
    """
    names, plain = list(weights), _tried(model, gates, None, given)
    if plain.failure:
        return _pass_over(model, f"it fails when it is tried ({plain.failure})")
    ones = _ones(model, batch)
    gated = _tried(model, gates, [ones] * len(names), given)
    difference = _difference(plain, gated)
    if not difference:
        return _warn_of_what_gets_no_gradient(model, plain, weights)
    if _difference(plain, _tried(model, gates, None, given)):
        return _pass_over(model, "it differs from itself, by random numbers that are not torch's, NumPy's or Python's")
    name = _culprit(model, gates, names, given, plain, ones)
    raise LayerpruneError(
        f"ConcurrentPruner: {type(model).__name__} with open gates differs from itself without: {difference}; keep "
        f"{name or 'some sections'} with sections.but({{{name or 'name'!r}: 'differs'}}), or find sections in part of "
        "the model; verify=False skips this check"
    )


def _pass_over(model: nn.Module, reason: str) -> None:
    name = type(model).__name__
    warnings.warn(
        f"ConcurrentPruner: {name} with open gates cannot be compared with itself without: {reason}", stacklevel=2
    )


def _ones(model: nn.Module, batch: int) -> Tensor:
    device = next((each.device for each in model.parameters()), None)
    return torch.ones(batch, 1, device=device)


# --- one pass ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pass:
    outputs: list[Tensor]
    gradients: dict[str, Tensor] | None
    """None where torch gives none."""
    failure: str = ""


def _tried(model: nn.Module, gates: Gates, values: Sequence[GateValue] | None, given: Given) -> _Pass:
    """What a pass gives; without gates for None."""
    try:
        return _passed(model, gates, values, given)
    except Exception as error:  # whatever the model raises
        return _Pass([], {}, (str(error).strip().splitlines() or [type(error).__name__])[0][:160])


def _passed(model: nn.Module, gates: Gates, values: Sequence[GateValue] | None, given: Given) -> _Pass:
    with undisturbed(model), eager(), unseen_by_checkpoints():
        _silence(model)
        if values is None:
            detach(model)  # from what _silence has put in their place
        passes, gates.passes = gates.passes, Passes()
        try:
            args, named = _copied(given)
            gates.start(values, first_node())
            outputs = tensors_of(model(*args, **named))
            gates.stop()
            return _Pass([each.detach() for each in outputs], _gradients(model, outputs))
        finally:
            gates.start(None)
            gates.passes = passes
            torch.clear_autocast_cache()  # of weights in other types, which know of these gradients
            parametrize._cache.clear()


def _silence(model: nn.Module) -> None:
    """Leave torch's hooks and gates on all parts; `undisturbed` puts the former ones back."""
    for part in model.modules():
        for kind in _HOOKS:
            hooks = getattr(part, kind)
            kept = ((key, hook) for key, hook in hooks.items() if isinstance(hook, _OURS) or is_of_torch(hook))
            vars(part)[kind] = OrderedDict(kept)


def _copied(given: Given) -> Given:
    """Tensors of their own, which the model may overwrite; the user's gradients are not followed back further."""

    def copied(each: Any) -> Any:
        return each.clone() if isinstance(each, Tensor) else copy.deepcopy(each)

    return pytree.tree_map(copied, given)


def _gradients(model: nn.Module, outputs: Sequence[Tensor]) -> dict[str, Tensor] | None:
    """Of all weights, for a sum of outputs with fixed signs."""
    weights = {name: each for name, each in model.named_parameters() if each.requires_grad}
    followed = [each for each in outputs if each.requires_grad and each.is_floating_point()]
    if not weights or not followed:
        return {}
    total = sum((each.float().flatten() * _signs(each)).mean() for each in followed)
    try:
        found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    except RuntimeError:  # of checkpoints with use_reentrant=True, and of networks that cannot be trained
        return None
    return {name: each for name, each in zip(weights, found, strict=True) if each is not None}


def _signs(output: Tensor) -> Tensor:
    return torch.arange(output.numel(), device=output.device).float().mul(2.4).cos()


# --- what gets no gradient ---------------------------------------------------------------------------------------


def _warn_of_what_gets_no_gradient(model: nn.Module, plain: _Pass, weights: dict[str, Sequence[nn.Parameter]]) -> None:
    names = {id(each): name for name, each in model.named_parameters() if each.requires_grad}
    trained = {section: {names[id(each)] for each in own if id(each) in names} for section, own in weights.items()}
    cut = [section for section, own in trained.items() if own and own.isdisjoint(plain.gradients or {})]
    if plain.gradients and cut:
        rest = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
        warnings.warn(
            f"ConcurrentPruner: section '{cut[0]}'{rest} got no gradient in the first pass, as of parts that run under "
            "torch.no_grad(), are detached, or were skipped: where none ever comes, nothing tells what a section is "
            "worth, and it goes; sections.but({name: 'frozen'}) keeps it",
            stacklevel=2,
        )


# --- in what two passes differ ----------------------------------------------------------------------------------


def _difference(plain: _Pass, gated: _Pass) -> str:
    if gated.failure:
        return f"it fails ({gated.failure})"
    if len(plain.outputs) != len(gated.outputs):
        return f"{len(gated.outputs)} outputs for {len(plain.outputs)}"
    for place, (one, other) in enumerate(zip(plain.outputs, gated.outputs, strict=True)):
        if not _is_close(one, other, 0.0):
            return f"output {place} differs"
    return "" if plain.gradients is None else _difference_of(plain.gradients, gated.gradients or {})


def _difference_of(plain: dict[str, Tensor], gated: dict[str, Tensor]) -> str:
    """Of gradients, by the weights' names."""
    odd = sorted(plain.keys() ^ gated.keys())
    if odd:
        return f"'{odd[0]}' gets {'no' if odd[0] in plain else 'a'} gradient"
    least = 0.01 * max((_size(each) for each in plain.values()), default=0.0)
    for name, one in plain.items():
        if not _is_close(one, gated[name], least):
            return f"the gradient of '{name}' differs"
    return ""


def _is_close(one: Tensor, other: Tensor, least: float) -> bool:
    """Bit for bit, or nearly, where sums are taken in any order; relative to the largest value, or to `least`."""
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    one, other = _dense(one), _dense(other)
    if one.shape != other.shape or torch.equal(one, other):
        return one.shape == other.shape
    if not one.is_floating_point():
        return False
    share = _TOLERANCE.get(one.dtype, 3e-2)
    return torch.allclose(one, other, rtol=0.0, atol=share * max(_size(one), least), equal_nan=True)


def _dense(values: Tensor) -> Tensor:
    return values.coalesce().values() if values.layout is torch.sparse_coo else values


def _size(values: Tensor) -> float:
    values = _dense(values)
    finite = values[values.isfinite()].abs() if values.is_floating_point() else values.new_zeros(0)
    return float(finite.max()) if finite.numel() else 0.0


def _culprit(
    model: nn.Module, gates: Gates, names: Sequence[str], given: Given, plain: _Pass, ones: Tensor
) -> str | None:
    """The first section that differs with the others' gates untouched; None where none does alone."""
    for place, name in enumerate(names):
        values: list[GateValue] = [None] * len(names)
        values[place] = ones
        if _difference(plain, _tried(model, gates, values, given)):
            return name
    return None
