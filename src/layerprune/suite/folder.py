"""A run's folder, wherever it was moved: its network can be shown and exported.

Network and weights are checked against the record beside them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table

from layerprune.core.measure import count_depth, count_macs, count_params, layer_macs
from layerprune.core.networks import storage
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError
from layerprune.library import network_files as programs
from layerprune.library import onnx_files
from layerprune.suite import record, store
from layerprune.suite.record import Files
from layerprune.system import files, paths


def network_in(folder: Path, say: Callable[[str], None] = lambda _: None) -> SectionedNetwork:
    """The network that is left of a run, with its weights; `say` is told of those that the store has rounded.

    Raises LayerpruneError for a file that is missing or damaged, or is not the one that the record was written with.
    """
    network = described_in(folder)
    path, own = paths.weights_in(folder), paths.record_in(folder)
    half = store.half_weights(record.read(own)) if own.is_file() and not path.exists() else None
    if half is None:
        store.read_checked(path, _told(folder).weights)
    else:
        say(f"{folder}: has no weights; taken in half precision from {half}")
    storage.load_weights(network, half or path)
    return network


def described_in(folder: Path) -> SectionedNetwork:
    """The same without its weights: arch.json suffices."""
    path = paths.arch_in(folder)
    content = store.read_checked(path, _told(folder).arch)
    return storage.described(files.parse_json(content.decode(errors="replace"), path), path)


def _told(folder: Path) -> Files:
    """What the record beside the files says of them; nothing without a record."""
    path = paths.record_in(folder)
    return record.read(path).files if path.is_file() else Files()


# --- as a table -----------------------------------------------------------------------------------------------------


def print_run(folder: Path) -> None:
    """The network left of a run. Works without weights.safetensors, from arch.json alone."""
    if not folder.is_dir():
        raise LayerpruneError(f"{folder}: no such run folder")
    network = described_in(folder)
    try:
        table = _network_table(network)
    except RuntimeError as error:
        raise LayerpruneError(f"{paths.arch_in(folder)}: not a network's description: {error}") from None
    Console(soft_wrap=True).print(table)
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


# --- as a file for elsewhere ----------------------------------------------------------------------------------------

Format = Literal["pt2", "onnx", "state-dict"]
SUFFIXES: dict[Format, str] = {"pt2": "pt2", "onnx": "onnx", "state-dict": "pt"}
FORMATS: dict[str, Format] = {f".{suffix}": form for form, suffix in SUFFIXES.items()} | {".safetensors": "state-dict"}
"""What a file's name says of its format; other names say nothing."""


def format_of(form: Format | None, output: Path | None) -> Format:
    """The format to export in: the one asked for, or the one that the file's name says, or else pt2.

    Raises LayerpruneError where the two differ.
    """
    named = None if output is None else FORMATS.get(output.suffix.lower())
    if form is not None and named is not None and named != form:
        raise LayerpruneError(f"--output: {output}: this name is for --format {named}, not for {form}")
    return form or named or "pt2"


def export(run: Path, form: Format | None, output: Path | None, say: Callable[[str], None]) -> Path:
    """Write the network that is left of a run, and return the file, by default beside its weights: its weights by name,
    or a program (of torch.export, or ONNX) that needs no class of this package. Without `form`, the name of `output`
    says which.

    Raises LayerpruneError where the folder holds no network or no weights, where the file cannot be written or its name
    is for another format, and as ONNX where layerprune[onnx] is not installed or the file would compute other numbers.
    """
    form = format_of(form, output)
    network = network_in(run, say).eval()
    path = output or paths.exported_in(run, SUFFIXES[form])
    if form == "state-dict":
        _write_weights(path, network)
    elif form == "onnx":
        onnx_files.write(network, path, torch.zeros(1, *network.input_shape))
    else:
        programs.write_program(network, path, torch.zeros(1, *network.input_shape))
    return path


def _write_weights(path: Path, network: SectionedNetwork) -> None:
    """In the format of safetensors where the name says so, else in torch's."""
    weights = network.state_dict()
    if path.suffix.lower() != ".safetensors":
        storage.write_tensors(path, weights)
        return
    content = safetensors.torch.save({name: value.contiguous() for name, value in weights.items()})
    files.write_atomically(path, lambda stream: stream.write(content))
