"""One file a network: reading it needs none of the network's classes and runs no pickled code.

A network of this package is stored as its layout and weights, and can be trained further once it is loaded. Any other
module is stored as a program of torch.export, or as ONNX, which compute what the module did in evaluation.
"""

import io
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from layerprune.core.measure import evaluating
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.networks.storage import construct, describe, read_tensors, write_tensors
from layerprune.errors import LayerpruneError
from layerprune.library.arguments import require
from layerprune.library.checked_programs import module_of, read_program
from layerprune.system import files


def save(module: nn.Module, path: Path | str, example_input: Tensor | None = None) -> None:
    """Write a network with its weights.

    A network of this package needs only a path (usually `NAME.pt`). Any other module needs an `example_input`: what it
    computes in evaluation is written for batches of any size. If the name ends in `.onnx`, the file is ONNX, compared
    with the network in onnxruntime before it is written (needs layerprune[onnx]); otherwise it is a program of
    torch.export (usually `NAME.pt2`).

    If the name ends in `.safetensors`, the file holds the model's weights and a list of what was removed;
    `load(path, into=model)` reads it into a whole model, to be trained further.

    Raises LayerpruneError if torch.export does not support the network, the ONNX file computes other numbers, or the
    file cannot be written.
    """
    path = Path(path)
    is_tensor = example_input is None or isinstance(example_input, Tensor)
    require(is_tensor, "save", "example_input is one tensor [B, ...]", example_input)
    if path.suffix == ".safetensors":
        from layerprune.library import smaller_models

        smaller_models.write(module, path)
    elif example_input is None:
        _save_network(module, path)
    elif path.suffix == ".onnx":
        from layerprune.library import onnx_files

        onnx_files.write(module, path, example_input)
    else:
        write_program(module, path, example_input)


def load(path: Path | str, into: nn.Module | None = None) -> nn.Module:
    """The network saved at `path`, in evaluation mode; a program stays in evaluation mode.

    A safetensors file is read `into` a whole model of the class that was pruned: the removed sections are taken out,
    the remaining weights are loaded, and the model is returned in its current mode.

    Runs no code from the file. Raises LayerpruneError for a file of another kind, and for a program that holds more
    than a plain graph (see checked_programs).
    """
    path = Path(path)
    if into is None and path.suffix == ".safetensors":
        raise LayerpruneError(
            f"{path}: weights of a model whose code is yours: load(path, into=model) reads them into one"
        )
    if into is not None:
        from layerprune.library import smaller_models

        return smaller_models.read_into(into, path)
    return _load_network(path) if _holds_tensors(path) else module_of(load_program(path), path)


def write_program(module: nn.Module, path: Path, example_input: Tensor) -> None:
    """Write a program of torch.export, whatever the file is called."""
    packed = io.BytesIO()
    torch.export.save(program_of(module, example_input), packed)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def load_program(path: Path | str) -> ExportedProgram:
    """The program of a file, with the example that it was exported with."""
    return read_program(Path(path))


def program_of(module: nn.Module, example_input: Tensor) -> ExportedProgram:
    """What a module computes in evaluation, the size of the batch left open; the module keeps its mode."""
    batch = torch.export.Dim("batch", min=1)
    example = torch.cat([example_input, example_input])[:2]  # a batch of one would be taken for a constant
    try:
        with in_evaluation(module):
            return torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises many kinds
        raise LayerpruneError(
            f"{type(module).__name__}: cannot be exported by torch.export: {reason_of(error)}"
        ) from None


def in_evaluation(module: nn.Module) -> AbstractContextManager:
    """Evaluation mode for a while. A program's module is in it for good, its method `eval` replaced by a refusal."""
    return nullcontext() if "eval" in vars(module) else evaluating(module)


def reason_of(error: Exception) -> str:
    """The first line of what an exception says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _save_network(module: nn.Module, path: Path) -> None:
    if path.suffix == ".onnx" or not isinstance(module, SectionedNetwork):
        raise LayerpruneError(f"save: a {type(module).__name__} is saved as a program: give save an example_input")
    write_tensors(path, {"network": describe(module), "weights": module.state_dict()})


def _holds_tensors(path: Path) -> bool:
    """Whether a file is of torch.save, and not of torch.export; both are ZIP archives."""
    try:
        with files.open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (ValueError, NotImplementedError, MemoryError, zipfile.BadZipFile):  # a list of members may be gigabytes
        return False


def _load_network(path: Path) -> SectionedNetwork:
    content = read_tensors(path)
    try:
        network = construct(content["network"])
        network.load_state_dict(_tensors_of(content["weights"]), assign=True)  # they keep their types of number
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise LayerpruneError(f"{path}: not a network that layerprune.save has written: {reason_of(error)}") from None
    return network.eval()


def _tensors_of(weights: Any) -> dict[str, Tensor]:
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise TypeError("it holds no weights")
    return weights
