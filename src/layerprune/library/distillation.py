"""Distillation while a model is pruned: the loss of a teacher's softened outputs, as in the suite's fine-tuning.

loss = (1 - a) loss + a T^2 KL(teacher || model),  both softened by the temperature T (Hinton et al. 2015)
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.measure import evaluating
from layerprune.errors import LayerpruneError
from layerprune.library import examples


class Teacher:
    """A network that is not trained, in evaluation mode whenever it is asked: a frozen copy of the model where True."""

    def __init__(self, model: nn.Module, teacher: nn.Module | bool, weight: float, temperature: float) -> None:
        if not 0 <= weight <= 1 or not 0 < temperature < float("inf"):
            raise LayerpruneError(
                f"ConcurrentPruner: distill is a share of the loss, from 0 to 1, and temperature above 0, not {weight} "
                f"and {temperature}"
            )
        if teacher is not True and not isinstance(teacher, nn.Module):
            raise LayerpruneError(f"ConcurrentPruner: teacher is a module or True, not {teacher!r}")
        if teacher is model:
            raise LayerpruneError("ConcurrentPruner: the teacher is the model itself; teacher=True makes a copy of it")
        self.module = copy.deepcopy(model).requires_grad_(False) if teacher is True else teacher
        self.weight, self.temperature = weight, temperature

    def distilled(self, loss: Tensor, x: Any, outputs: Any, dim: int | None) -> Tensor:
        """See ConcurrentPruner.distilled."""
        with torch.no_grad(), evaluating(self.module):
            target = _logits(examples.call(self.module, x))
        own = _logits(outputs)
        if own.shape != target.shape:
            raise LayerpruneError(
                f"distilled: the model's outputs have the shape {list(own.shape)}, the teacher's {list(target.shape)}"
            )
        gap = self._gap(own, target, _classes(own, dim))
        return (1 - self.weight) * loss + self.weight * gap

    def _gap(self, own: Tensor, target: Tensor, dim: int) -> Tensor:
        """T^2 KL of the softened outputs, the mean over all but the classes."""
        softened, wanted = (functional.log_softmax(each.float() / self.temperature, dim) for each in (own, target))
        terms = functional.kl_div(softened, wanted, reduction="none", log_target=True)
        return self.temperature**2 * terms.sum(dim).mean()


def _logits(outputs: Any) -> Tensor:
    """What a network returns, or the part of it that is called logits (Transformers) or out (torchvision)."""
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "out"):
        found = outputs.get(name) if hasattr(outputs, "get") else getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    raise LayerpruneError(
        "distilled: give outputs that are logits, or hold them as 'logits' or 'out', not "
        f"{type(outputs).__name__}; for others compute the loss yourself"
    )


def _classes(logits: Tensor, dim: int | None) -> int:
    """The dimension of the classes. Of three dimensions, classes are the second or the last: that has to be said."""
    if dim is None and logits.dim() == 3:
        raise LayerpruneError(f"distilled: which dimension of {list(logits.shape)} has the classes? Give dim=1 or 2")
    if (dim is not None and not -logits.dim() <= dim < logits.dim()) or logits.dim() < 2:
        raise LayerpruneError(f"distilled: outputs of shape {list(logits.shape)} have no classes in dimension {dim}")
    return 1 if dim is None else dim
