"""Exact counts: MACs (multiply-adds of convolutions and linear layers, one input), parameters, depth.

Biases, pooling and elementwise work are not counted; the counts equal torch's FlopCounterMode / 2.
"""

from collections.abc import Sequence

import torch
from torch import nn

from layerprune.core.measure.modes import evaluating
from layerprune.core.networks.sections import Section, SectionedNetwork

_WEIGHT_LAYERS = (nn.Linear, nn.Conv2d)


def count_macs(module: nn.Module, shape: Sequence[int]) -> int:
    """MACs of one input of `shape` (without the batch) through a module."""
    return sum(layer_macs(module, shape).values())


def layer_macs(module: nn.Module, shape: Sequence[int]) -> dict[str, int]:
    """MACs of every convolution and linear layer by its name, for one input of `shape`."""
    counts: dict[str, int] = {}
    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, _WEIGHT_LAYERS):

            def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor, name: str = name) -> None:
                counts[name] = counts.get(name, 0) + output[0].numel() * layer.weight[0].numel()

            handles.append(layer.register_forward_hook(hook))
    try:
        _run(module, shape)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def output_shape(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape (without the batch) that a module makes of one input of `shape`."""
    return tuple(_run(module, shape).shape[1:])


def _run(module: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    reference = next(module.parameters(), None)
    with evaluating(module), torch.no_grad():
        return module(torch.zeros(1, *shape, device=reference.device if reference is not None else None))


def count_params(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def section_macs(network: SectionedNetwork) -> list[int]:
    """MACs of every removable section's branch; 0 where it is gone."""
    counts = layer_macs(network, network.input_shape)
    return [
        sum(macs for name, macs in counts.items() if name.startswith(f"chain.{place}.branch."))
        for place, section in enumerate(network.chain)
        if section.removable
    ]


def section_params(network: SectionedNetwork) -> list[int]:
    """Parameters of every removable section's branch; 0 where it is gone."""
    return [count_params(section.branch) if section.alive else 0 for section in network.sections]


def count_depth(network: SectionedNetwork) -> int:
    """Weight layers on the longest path from input to output."""
    return _chain(network.stem) + sum(map(_section_depth, network.chain)) + _chain(network.head)


def _section_depth(section: Section) -> int:
    return max(_chain(section.shortcut), _chain(section.branch) if section.alive else 0)


def _chain(module: nn.Module) -> int:
    return sum(isinstance(layer, _WEIGHT_LAYERS) for layer in module.modules())
