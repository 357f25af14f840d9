"""A run's network as a file for elsewhere: its weights by name, or a program (of torch.export, or ONNX) that needs no
class of this package."""

from pathlib import Path
from typing import Literal

import torch

from layerprune.core.networks import storage
from layerprune.library import network_files as programs
from layerprune.library import onnx_files
from layerprune.suite.folder import network_in
from layerprune.system import paths

Format = Literal["pt2", "onnx", "state-dict"]
SUFFIXES: dict[Format, str] = {"pt2": "pt2", "onnx": "onnx", "state-dict": "pt"}


def export(run: Path, form: Format, output: Path | None) -> Path:
    """Write the network that is left of a run in a folder, and return the file, by default beside its weights.

    Raises LayerpruneError where the folder holds no network or no weights, where the file cannot be written, and as
    ONNX where layerprune[onnx] is not installed or the file would compute other numbers.
    """
    network = network_in(run).eval()
    path = output or paths.exported_in(run, SUFFIXES[form])
    if form == "state-dict":
        storage.write_tensors(path, network.state_dict())
    elif form == "onnx":
        onnx_files.write(network, path, torch.zeros(1, *network.input_shape))
    else:
        programs.write_program(network, path, torch.zeros(1, *network.input_shape))
    return path
