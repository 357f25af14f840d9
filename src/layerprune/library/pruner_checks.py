"""Refuses what a pruner does not support, before anything has changed."""

import operator
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.library.aims import Aims, Cost
from layerprune.library.arguments import is_whole, require
from layerprune.library.find_sections import unwrapped
from layerprune.library.found_sections import FoundSections
from layerprune.library.gates import has_gates
from layerprune.library.rewriting import Forward

_require = partial(require, caller="ConcurrentPruner")


def check_sections(caller: str, sections: Any) -> None:
    """Raises LayerpruneError unless these are what find_sections returns, not a part of it."""
    wanted = "sections are what find_sections returns; sections.but({name: reason}) keeps some of them"
    require(isinstance(sections, FoundSections), caller, wanted, sections)


def check_kinds(
    model: Any,
    sections: Any,
    optimizer: Any,
    total_steps: Any,
    warmup_steps: Any,
    cost: Any,
    seed: Any,
    scaler: Any,
    on_removal: Any,
) -> None:
    """Raises LayerpruneError where an argument is not of the kind that it has to be."""
    _require(isinstance(model, nn.Module), wanted="model is a module", given=model)
    check_sections("ConcurrentPruner", sections)
    _require(
        all(map(_is_optimizer, optimizers_of(optimizer))),
        wanted="optimizer is an optimizer of torch.optim, or a list of them",
        given=optimizer,
    )
    _require(
        is_whole(total_steps) and total_steps >= 1,
        wanted="total_steps is how often step() will be called, a whole number of at least 1",
        given=total_steps,
    )
    _require(
        warmup_steps is None or (is_whole(warmup_steps) and warmup_steps >= 0),
        wanted="warmup_steps is how many steps theta waits, a whole number, 0 or more",
        given=warmup_steps,
    )
    known = get_args(Cost)
    _require(cost is None or cost in known, wanted=f"cost is one of {', '.join(known)}", given=cost)
    _require(is_whole(seed), wanted="seed is a whole number", given=seed)
    _require(
        scaler is None or hasattr(scaler, "get_scale"),
        wanted="scaler is the GradScaler of mixed precision, or None",
        given=scaler,
    )
    _require(callable(on_removal), wanted="on_removal is a function of a list of names", given=on_removal)


def optimizers_of(optimizer: Any) -> list[Any]:
    return list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]


def _is_optimizer(given: Any) -> bool:
    """Whether it is one, or somebody's wrapper around one."""
    return not isinstance(given, type) and hasattr(given, "param_groups")


def trainable(sections: FoundSections) -> FoundSections:
    """The same sections, but that frozen ones stay, if others may go."""
    frozen = {
        each.name: "frozen"
        for each in sections.removable
        if not any(one.requires_grad for one in each.parameters(sections.model))
    }
    return sections.but(frozen) if len(frozen) < len(sections.removable) else sections


def check(
    wrapped: nn.Module, sections: FoundSections, forward: Forward, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Raises LayerpruneError where sections, model (`wrapped` as it was given) and optimizers do not fit together."""
    model = unwrapped(wrapped)
    if sections.model is not model:
        raise LayerpruneError("ConcurrentPruner: the sections were found in another model")
    if any(map(_is_sharded, model.parameters())):
        raise LayerpruneError(
            "ConcurrentPruner: the model is sharded (fully_shard: its parameters are DTensors), and sections cannot be "
            "removed from it: use DistributedDataParallel or one device"
        )
    if has_gates(model):
        raise LayerpruneError(
            "ConcurrentPruner: the model, or a part of it, already has gates; use one pruner per model, "
            "or detach() the first"
        )
    if not sections.removable:
        reasons = sorted({section.reason for section in sections})
        raise LayerpruneError(f"ConcurrentPruner: no section can be removed: {reasons[0]}; print(sections) lists them")
    _check_optimizers(sections, forward, optimizers)
    if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not wrapped.find_unused_parameters:
        raise LayerpruneError(
            "ConcurrentPruner: sections are removed during training: give DistributedDataParallel "
            "find_unused_parameters=True"
        )


def _is_sharded(parameter: nn.Parameter) -> bool:
    # Whoever has a DTensor has imported its module; nobody else waits for that.
    sharding = sys.modules.get("torch.distributed.tensor")
    return sharding is not None and isinstance(parameter, sharding.DTensor)


def _check_kind_of_optimizer(optimizer: torch.optim.Optimizer) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise LayerpruneError(
            "ConcurrentPruner: LBFGS calls the model many times a step, with other gates each time, and remembers "
            "gradients of parameters that leave: use an optimizer that takes one gradient a step"
        )


def _check_optimizers(sections: FoundSections, forward: Forward, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    for each in optimizers:
        _check_kind_of_optimizer(each)
    model = forward.model
    held = {id(each) for one in optimizers for group in one.param_groups for each in group["params"]}
    there = [section for section, stays in zip(sections.removable, forward.alive, strict=True) if stays]
    for section in there:
        trained = [each for each in section.parameters(model) if each.requires_grad]
        if not trained:
            raise LayerpruneError(
                f"ConcurrentPruner: section '{section.name}' is frozen: none of its parameters requires a gradient; "
                "call requires_grad_() on it, and make the optimizer after that"
            )
        if not all(id(each) in held for each in trained):
            raise LayerpruneError(
                f"ConcurrentPruner: the optimizer does not hold the parameters of section '{section.name}': "
                "make it from model.parameters(), or give a list of all optimizers"
            )


def check_state(state: Mapping[str, Any], names: Sequence[str], alive: Sequence[bool], aims: Aims) -> None:
    """Raises LayerpruneError unless this is the state of a pruner with these sections and this aim.

    States of version 0.1 name neither; they fit if they have as many sections.
    """
    lacking = [name for name in ("alive", "steps", "batch", "method", "noise") if name not in state]
    if lacking:
        raise LayerpruneError(f"load_state_dict: this is not the state of a pruner: it has no '{lacking[0]}'")
    others = len(state["alive"]) != len(alive) or list(state.get("sections", names)) != list(names)
    if others or any(map(operator.gt, state["alive"], alive)):
        raise LayerpruneError("load_state_dict: the state belongs to other sections, or some are already removed")
    told, asked = state.get("aims", aims.told()), aims.told()
    if told != asked:
        raise LayerpruneError(f"load_state_dict: the state was made with {_listed(told)}, not {_listed(asked)}")


def _listed(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in told.items())
