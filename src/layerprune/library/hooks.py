"""Hooks on modules, and whose they are."""

from typing import Any

from torch import nn


class OfPruner:
    """A hook that belongs to a pruner, and that `gates.detach` takes off."""


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody wants to be called with the module. A pruner's hooks do not count, nor do Transformers' own,
    which only wait to be asked for hidden states."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(_is_of_somebody(hook) for kind in kinds for hook in getattr(module, kind).values())


def _is_of_somebody(hook: Any) -> bool:
    is_of_weight = str(getattr(hook, "__module__", "")).startswith("torch.nn.utils.")  # weight_norm, pruning masks
    return (
        not isinstance(hook, OfPruner) and getattr(hook, "__name__", "") != "output_capturing_hook" and not is_of_weight
    )


def is_of_torch(hook: Any) -> bool:
    """Whether torch has made a hook, which may compute a weight, as weight_norm's does."""
    return str(getattr(hook, "__module__", "")).startswith("torch.")
