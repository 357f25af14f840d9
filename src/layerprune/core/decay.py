"""Which weights are under weight decay: one rule for the optimizer and for methods that price or scale the decay."""

from collections.abc import Iterable

from torch import nn


def under_decay(weights: Iterable[nn.Parameter], decayed: str) -> list[nn.Parameter]:
    """Those of `weights` that decay; `decayed` as in the training's settings: "all" of them, or "matrices" (of two
    dimensions or more: neither biases nor the weights of normalisation)."""
    return [each for each in weights if decayed == "all" or each.ndim > 1]
