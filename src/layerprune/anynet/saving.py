"""Exported networks as files that need none of their classes: programs of torch.export, or ONNX."""

import io
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from layerprune import files
from layerprune.errors import LayerpruneError
from layerprune.measure.modes import evaluating


def save(module: nn.Module, path: Path | str, example_input: Tensor) -> None:
    """Write what a module computes in evaluation, with its weights, for batches of any size.

    As ONNX where the name ends in `.onnx`, which needs layerprune[onnx] and is compared with the module in onnxruntime
    before it is written; else as a program of torch.export (usually `NAME.pt2`).

    Raises LayerpruneError where torch.export cannot follow the module, where the ONNX file computes other numbers, and
    where the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        from layerprune.anynet import onnx_files

        onnx_files.write(module, path, example_input)
    else:
        write_program(module, path, example_input)


def write_program(module: nn.Module, path: Path, example_input: Tensor) -> None:
    """Write a program of torch.export, whatever the file is called."""
    packed = io.BytesIO()
    torch.export.save(program_of(module, example_input), packed)
    files.write_atomically(path, lambda stream: stream.write(packed.getbuffer()))


def load(path: Path | str) -> nn.Module:
    """The module that was saved, in evaluation mode for good. Raises LayerpruneError for a file that is none."""
    return load_program(path).module()


def load_program(path: Path | str) -> ExportedProgram:
    """The program of a file, with the example that it was exported with."""
    try:
        return torch.export.load(path)
    except FileNotFoundError:
        raise LayerpruneError(f"{path}: no such file") from None
    except Exception as error:  # of a damaged file
        raise LayerpruneError(f"{path}: not a program of torch.export: {reason_of(error)}") from None


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
