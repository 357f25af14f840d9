"""Architectures by slug: networks/archs/<slug>.py, or <family>.py for a slug that ends in a number of sections."""

import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from layerprune.core.networks import arch_file, known_archs
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError, SettingError
from layerprune.system.extensions import checked_return, entry_point, imported


def build(
    arch: str,
    input_shape: Sequence[int],
    classes: int,
    generator: torch.Generator,
    settings: ModelSettings = ModelSettings(),  # noqa: B008 -- frozen
) -> SectionedNetwork:
    """A freshly initialised network on the CPU; all its random numbers come from `generator`.

    Raises LayerpruneError for an unknown architecture, for settings that it does not have, and for a file that does not
    define it.
    """
    module = _module(arch)
    builder = entry_point(module, "build", ("arch", "input_shape", "classes"), _changed(settings))
    network = builder(arch, input_shape, classes, **_options(arch, builder, settings))
    checked_return(network, SectionedNetwork, builder)
    if settings.removable == "shape-preserving":
        network.fix(section for section in network.chain if not section.preserves_shape)
    initialise(network, generator)
    if settings.init == "dirac":
        add_identities(network)
    if hasattr(module, "rescale"):
        module.rescale(network)
    return network


def _module(arch: str) -> ModuleType:
    """The architecture's module; only families that say NUMBERED take a number behind their name."""
    stem = arch_file(arch).stem
    if arch_file(arch).is_file():
        module = imported(f"layerprune.core.networks.archs.{stem}")
        if stem == arch.replace("-", "_") or getattr(module, "NUMBERED", False):
            return module
    known = ", ".join(known_archs())
    raise LayerpruneError(f"unknown architecture '{arch}' (known: {known}; mlp-residual takes -<sections>)")


def _options(arch: str, builder: Callable, settings: ModelSettings) -> dict[str, Any]:
    """The settings that an architecture takes by name; one it does not take must stay at its default."""
    options = _changed(settings)
    for name in options:
        if name not in inspect.signature(builder).parameters:
            raise SettingError(f"model.{name}: {arch} has no such option")
    return options


def _changed(settings: ModelSettings) -> dict[str, Any]:
    """The settings that differ from their defaults and that an architecture may take."""
    return settings.model_dump(exclude_defaults=True, exclude={"removable", "init"})


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


def add_identities(network: SectionedNetwork) -> None:
    """The branches' convolutions pass their first inputs on at the start (Zagoruyko & Komodakis 2017, DiracNets).

    As many outputs as there are inputs become copies of them, the others keep their random weights.
    """
    with torch.no_grad():
        for section in network.chain:
            for layer in section.branch.modules():
                if isinstance(layer, nn.Conv2d) and layer.groups == 1:
                    nn.init.dirac_(layer.weight[: layer.in_channels])
