"""Exported networks as files that need none of their classes: programs of torch.export."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from layerprune import files
from layerprune.errors import LayerpruneError


def save(module: nn.Module, path: Path | str, example_input: Tensor) -> None:
    """Write what a module computes in evaluation, with its weights, for batches of any size (usually `NAME.pt2`).

    Raises LayerpruneError where torch.export cannot follow the module, and where the file cannot be written.
    """
    batch = torch.export.Dim("batch", min=1)
    example = torch.cat([example_input, example_input])[:2]  # a batch of one would be taken for a constant
    try:
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LayerpruneError(f"{type(module).__name__}: cannot be exported by torch.export: {reason}") from None
    packed = io.BytesIO()
    torch.export.save(program, packed)
    files.write_atomically(Path(path), lambda stream: stream.write(packed.getbuffer()))


def load(path: Path | str) -> nn.Module:
    """The module that was saved, in evaluation mode for good. Raises LayerpruneError for a file that is none."""
    try:
        return torch.export.load(path).module()
    except FileNotFoundError:
        raise LayerpruneError(f"{path}: no such file") from None
    except Exception as error:  # of a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LayerpruneError(f"{path}: not a program of torch.export: {reason}") from None
