"""Networks as one file each, that needs none of their classes and runs no pickled code.

A network of this package is stored as what it is made of and its numbers, and comes back as one that can be trained
on. Any module can be stored as a program of torch.export, which computes what the module did in evaluation.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerprune import files
from layerprune.errors import LayerpruneError
from layerprune.models.saving import construct, describe, read_tensors, write_tensors
from layerprune.models.sections import SectionedNetwork


def save(module: nn.Module, path: Path | str, example_input: Tensor | None = None) -> None:
    """Write a network with its weights.

    One of this package needs no more than a path (usually `NAME.pt`). With an `example_input` the network, of whatever
    package, is written as a program for batches of any size like it (usually `NAME.pt2`). Raises LayerpruneError where
    torch.export cannot follow the network, and where the file cannot be written.
    """
    if example_input is not None:
        _save_program(module, Path(path), example_input)
    elif isinstance(module, SectionedNetwork):
        write_tensors(Path(path), {"network": describe(module), "weights": module.state_dict()})
    else:
        raise LayerpruneError(f"save: a {type(module).__name__} is saved as a program: give save an example_input")


def load(path: Path | str) -> nn.Module:
    """The network that was saved, in evaluation mode: for good if it is a program.

    Raises LayerpruneError for a file that is none.
    """
    return _load_network(Path(path)) if _holds_tensors(path) else _load_program(path)


def _save_program(module: nn.Module, path: Path, example_input: Tensor) -> None:
    batch = torch.export.Dim("batch", min=1)
    example = torch.cat([example_input, example_input])[:2]  # a batch of one would be taken for a constant
    try:
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LayerpruneError(f"{type(module).__name__}: cannot be exported by torch.export: {reason}") from None
    packed = io.BytesIO()
    torch.export.save(program, packed)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def _load_program(path: Path | str) -> nn.Module:
    try:
        return torch.export.load(path).module()
    except FileNotFoundError:
        raise LayerpruneError(f"{path}: no such file") from None
    except Exception as error:  # of a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LayerpruneError(f"{path}: not a program of torch.export: {reason}") from None


def _holds_tensors(path: Path | str) -> bool:
    """Whether a file is of torch.save, and not of torch.export; both are ZIP archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _load_network(path: Path) -> SectionedNetwork:
    content = read_tensors(path)
    try:
        network = construct(content["network"])
        network.load_state_dict(_tensors_of(content["weights"]), assign=True)  # they keep their types of number
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LayerpruneError(f"{path}: not a network that layerprune.save has written: {reason}") from None
    return network.eval()


def _tensors_of(weights: Any) -> dict[str, Tensor]:
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise TypeError("it holds no weights")
    return weights
