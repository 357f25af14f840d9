"""What the command line prints about a run's network and about the methods."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from layerprune.core import methods
from layerprune.core.measure import count_depth, count_macs, count_params, layer_macs
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError
from layerprune.suite.folder import described_in


def print_run(folder: Path) -> None:
    """The network left of a run. Works without weights.safetensors, from arch.json alone."""
    if not folder.is_dir():
        raise LayerpruneError(f"{folder}: no such run folder")
    network = described_in(folder)
    Console(soft_wrap=True).print(_network_table(network))
    print(
        f"depth {count_depth(network)}, {count_macs(network, network.input_shape):,} MACs, "
        f"{count_params(network):,} parameters, {sum(network.keep())} of {len(network.sections)} sections left"
    )


def _network_table(network: SectionedNetwork) -> Table:
    table = Table(title=network.arch)
    for name, justify in (
        ("part", "left"),
        ("state", "left"),
        ("layers", "left"),
        ("MACs", "right"),
        ("parameters", "right"),
    ):
        table.add_column(name, justify=justify)
    macs = layer_macs(network, network.input_shape)
    parts = [("stem", network.stem), *((s.name, s) for s in network.chain), ("head", network.head)]
    prefixes = ["stem", *(f"chain.{place}" for place in range(len(network.chain))), "head"]
    for (name, module), prefix in zip(parts, prefixes, strict=True):
        state = "" if prefix in ("stem", "head") else _state(module)
        spent = sum(value for layer, value in macs.items() if layer == prefix or layer.startswith(f"{prefix}."))
        table.add_row(name, state, _layers(module), f"{spent:,}", f"{count_params(module):,}")
    return table


def _state(section: Section) -> str:
    if not section.removable:
        return "fixed"
    return "kept" if section.alive else "removed"


def _layers(module: object) -> str:
    """Weight layers with their sizes: `branch` and `shortcut` of a section, or a plain chain."""
    found = []
    for name, layer in module.named_modules():
        if any(True for _ in layer.parameters(recurse=False)):
            where = name.split(".")[0] if name.startswith(("branch", "shortcut")) else ""
            sizes = "x".join(map(str, layer.weight.shape))
            found.append(f"{where} {sizes}".strip())
    return ", ".join(found) or "-"


def print_methods() -> None:
    """Every method with its family, its settings, their defaults and meaning."""
    for slug, family in methods.families().items():
        print(f"{slug}  ({family})")
        for name, field in methods.settings_class(slug).model_fields.items():
            print(f"    {name} = {field.default!r}: {field.description}")
