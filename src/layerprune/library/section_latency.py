"""What each section adds to the time of a forward pass of any model, measured here and now."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from layerprune.core.measure import evaluating
from layerprune.core.methods.parts.section_latency import SectionLatencies, seconds, shared_out, shortest
from layerprune.library.rewriting import Forward


def of_model(forward: Forward, example: Tensor) -> SectionLatencies:
    """Milliseconds of the whole model and of each removable section, for batches like the example, in evaluation."""
    everything = range(len(forward.sections))
    absent: list[Sequence[int]] = [(), everything, *((place,) for place in everything)]
    device = next(forward.model.parameters()).device
    batch = torch.zeros_like(example, device=device)
    with evaluating(forward.model), torch.inference_mode():
        modules = [forward.without(places).eval() for places in absent]
        whole, none, *without = shortest([_measurement(module, batch) for module in modules])
    return shared_out(whole, none, without)


def _measurement(module: nn.Module, batch: Tensor) -> Callable[[], float]:
    return lambda: seconds(lambda: module(batch), batch.device)
