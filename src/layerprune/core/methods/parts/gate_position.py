"""Where LayerPrune (Elkerdawy et al., ACCV 2020, arXiv 2007.05667) puts the gates whose channels it scores.

Each channel of a gate is a filter of the branch's first weight layer: the gate stands behind the batch normalisation
that follows this layer, or behind the layer itself where none follows. A normalisation that comes before the weights,
as in pre-activation, is a matter of the section's input and does not count.
"""

from itertools import dropwhile

from torch import nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm
WeightLayer = nn.Linear | nn.Conv2d


def first_batch_norm(branch: nn.Module) -> nn.Module | None:
    """The first batch normalisation behind a branch's first weight layer, None where there is none."""
    return next((layer for layer in _from_first_weights(branch) if isinstance(layer, BatchNorm)), None)


def gate_position(branch: nn.Module) -> nn.Module:
    """The layer whose outputs the gate multiplies."""
    return first_batch_norm(branch) or _from_first_weights(branch)[0]


def _from_first_weights(branch: nn.Module) -> list[nn.Module]:
    return list(dropwhile(lambda layer: not isinstance(layer, WeightLayer), branch.modules()))
