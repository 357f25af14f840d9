"""Whether batch normalisation divides by the statistics that training left, or by those of the batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

from layerprune.core.methods.parts.first_layer import BatchNorm


@contextmanager
def batch_norm_in(mode: Literal["eval", "train"], model: nn.Module) -> Iterator[None]:
    """eval: nothing changes, as scores use a network in evaluation mode. train: within the context every batch
    normalisation uses the batch's own statistics; the running ones stay as they are."""
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm)] if mode == "train" else []
    before = [(layer, layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, training, tracking in before:
            layer.training, layer.track_running_stats = training, tracking
