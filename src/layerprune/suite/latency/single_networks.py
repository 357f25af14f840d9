"""Latency of single networks: folders of runs, programs of torch.export (.pt2), ONNX files. They take turns.

The rows of a run go into latency.csv beside its record, those of a file into `<file>.latency.csv` beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.library.latency import machine, measuring
from layerprune.library.latency.engines import MeasuredModel
from layerprune.library.latency.machine import Say
from layerprune.library.latency.measuring import Conditions
from layerprune.library.network_files import load_program
from layerprune.suite.folder import described_in
from layerprune.suite.latency.presets import as_csv, model_of
from layerprune.system import files, paths

_ONNX_TYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64, "tensor(int32)": torch.int32}


def measure(models: Sequence[Path], conditions: Conditions, say: Say) -> list[Path]:
    """Measure the networks of these folders and files side by side; returns the tables.

    Raises LayerpruneError for one that holds no network, and when another process measures.
    """
    found = {path: _model(path) for path in dict.fromkeys(models)}
    tables = []
    with machine.alone(conditions.threads, say, paths.latency_lock()):
        measured = list(measuring.measure(list(found.values()), conditions, say))
    for path, model in found.items():
        row = _named(path, model) | {"macs": model.macs if model.macs is not None else ""}
        rows = [row | numbers for of, numbers in measured if of is model]
        tables.append(table_of(path))
        files.write_text(tables[-1], as_csv(rows))
    return tables


def table_of(path: Path) -> Path:
    """Where the rows of a folder or file go."""
    return paths.latency_in(path) if path.is_dir() else path.with_name(f"{path.name}.latency.csv")


def _model(path: Path) -> MeasuredModel:
    if path.is_dir():
        return model_of(described_in(path), str(path))[0]
    if not path.is_file():
        raise LayerpruneError(f"{path}: no such run folder or file")
    return _of_onnx(path) if path.suffix == ".onnx" else _of_program(path)


def _of_program(path: Path) -> MeasuredModel:
    program = load_program(path)
    inputs, named = program.example_inputs or ((), {})
    if len(inputs) != 1 or named or not isinstance(inputs[0], torch.Tensor):
        raise LayerpruneError(f"{path}: takes other inputs than one batch")
    return MeasuredModel(str(path), program.module(), tuple(inputs[0].shape[1:]), inputs[0].dtype)


def _of_onnx(path: Path) -> MeasuredModel:
    inputs = onnx_files.session(path).get_inputs()
    shape = inputs[0].shape[1:]
    if len(inputs) != 1 or inputs[0].type not in _ONNX_TYPES or not all(isinstance(size, int) for size in shape):
        raise LayerpruneError(f"{path}: takes other inputs than one batch of a known shape")
    return MeasuredModel(str(path), None, tuple(shape), _ONNX_TYPES[inputs[0].type], path)


def _named(path: Path, model: MeasuredModel) -> dict[str, Any]:
    try:
        run = paths.parse_run_folder(path.resolve())
    except ValueError:
        arch = model.module.arch if path.is_dir() else path.name
        return {"arch": arch, "method": "", "variant": "", "seed": ""}
    return {name: getattr(run, name) for name in ("arch", "method", "variant", "seed")}
