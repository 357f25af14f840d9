"""A section whose branch is for a while a freshly initialised one."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from layerprune.core.networks.sections import Section


@contextmanager
def reinitialised(section: Section) -> Iterator[None]:
    """Put a fresh branch, drawn from torch's global CPU generator, in the place of the trained one, which is untouched.

    Fresh is the whole state: weights by the rule of models.build.initialise (without an architecture's `rescale`),
    biases at 0, batch normalisation with its statistics as it was made.
    """
    trained = section.branch
    section.branch = copy.deepcopy(trained)
    try:
        _reinitialise(section.branch)
        yield
    finally:
        section.branch = trained


def _reinitialise(branch: nn.Module) -> None:
    with torch.no_grad():
        for layer in branch.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                _draw_weights(layer)
            elif _has_state(layer):
                layer.reset_parameters()


def _draw_weights(layer: nn.Linear | nn.Conv2d) -> None:
    # On the CPU and in one memory layout: every device gets the same numbers.
    fresh = torch.empty_like(layer.weight, device="cpu", memory_format=torch.contiguous_format)
    layer.weight.copy_(nn.init.kaiming_normal_(fresh, nonlinearity="relu"))
    if layer.bias is not None:
        layer.bias.zero_()


def _has_state(layer: nn.Module) -> bool:
    own = *layer.parameters(recurse=False), *layer.buffers(recurse=False)
    return len(own) > 0
