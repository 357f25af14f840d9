"""What a channel gate at 1 feels: activation times slope, a * dL/da, at the gate of every section."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.methods.parts.gate_position import gate_position
from layerprune.core.networks.sections import SectionedNetwork


def gate_products(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], reduction: str
) -> Iterator[list[Tensor]]:
    """For every batch one a * dL/da [B, channels, positions] a section; L: cross-entropy, `reduction` "mean" or "sum".

    Neither weights nor their gradients are touched.
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
    """What each layer puts out while the context lasts, by its place in `layers`."""
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
