"""The first weight layer of a branch, which LayerPrune scores (Elkerdawy et al., ACCV 2020, arXiv 2007.05667).

Filters are scored by their weights, and a gate for each channel by activation times slope. The gate stands behind the
batch normalisation that follows this layer, or behind the layer itself where none follows. A normalisation before the
weights, as in pre-activation, belongs to the section's input and does not count.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.networks.sections import SectionedNetwork

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
WeightLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def first_layer(branch: nn.Module) -> nn.Module:
    """The first weight layer of a branch."""
    return next(layer for layer in branch.modules() if isinstance(layer, WeightLayer))


def mean_over_filters(model: SectionedNetwork, number: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores [L]: `number(weight)` summed within each filter (row) of the first layer, averaged over filters."""
    with torch.no_grad():
        return torch.stack(
            [number(first_layer(section.branch).weight).flatten(1).sum(1).mean() for section in model.sections]
        )


def first_batch_norm(branch: nn.Module) -> nn.Module | None:
    """The first batch normalisation behind a branch's first weight layer, None if there is none."""
    return next((layer for layer in _from_first_weights(branch) if isinstance(layer, BatchNorm)), None)


def gate_position(branch: nn.Module) -> nn.Module:
    """The layer whose outputs the gate multiplies."""
    return first_batch_norm(branch) or _from_first_weights(branch)[0]


def _from_first_weights(branch: nn.Module) -> list[nn.Module]:
    return list(dropwhile(lambda layer: not isinstance(layer, WeightLayer), branch.modules()))


def gate_products(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], reduction: str
) -> Iterator[list[Tensor]]:
    """What a channel gate at 1 feels: for every batch one a * dL/da [B, channels, positions] a section.

    L is the cross-entropy, `reduction` "mean" or "sum". Neither weights nor their gradients are touched.
    """
    layers = [gate_position(section.branch) for section in model.sections]
    for images, labels in batches:
        with _outputs_of(layers) as outputs:
            logits = model(images)
        activations = [outputs[index] for index in range(len(layers))]
        slopes = torch.autograd.grad(functional.cross_entropy(logits, labels, reduction=reduction), activations)
        yield [_by_channel(a.detach() * slope) for a, slope in zip(activations, slopes, strict=True)]


def _by_channel(products: Tensor) -> Tensor:
    """[B, C, ...] as [B, C, positions]; a linear layer has one position."""
    return products.reshape(*products.shape[:2], -1)


@contextmanager
def _outputs_of(layers: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """The output of each layer while the context lasts, by its place in `layers`."""
    outputs: dict[int, Tensor] = {}
    handles = []
    for index, layer in enumerate(layers):

        def keep(layer: nn.Module, inputs: tuple, output: Tensor, index: int = index) -> None:
            outputs[index] = output

        handles.append(layer.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
