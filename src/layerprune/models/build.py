"""Architectures by slug: models/archs/<slug>.py, or <family>.py for a slug that ends in a number of sections."""

import importlib
from collections.abc import Sequence

import torch
from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.models.sections import SectionedNetwork
from layerprune.provenance import arch_file, known_archs


def build(arch: str, input_shape: Sequence[int], classes: int, generator: torch.Generator) -> SectionedNetwork:
    """A freshly initialised network on the CPU; all its random numbers come from `generator`.

    Raises LayerpruneError for an unknown architecture.
    """
    path = arch_file(arch)
    if not path.is_file():
        known = ", ".join(known_archs())
        raise LayerpruneError(f"unknown architecture '{arch}' (known: {known}; mlp-residual takes -<sections>)")
    module = importlib.import_module(f"layerprune.models.archs.{path.stem}")
    network = module.build(arch, input_shape, classes)
    initialise(network, generator)
    if hasattr(module, "rescale"):
        module.rescale(network)
    return network


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He initialisation where a ReLU stands before the layer, else variance-preserving; biases at 0."""
    with torch.no_grad():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                behind_relu = ".branch." in name
                nn.init.kaiming_normal_(
                    layer.weight, nonlinearity="relu" if behind_relu else "linear", generator=generator
                )
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
