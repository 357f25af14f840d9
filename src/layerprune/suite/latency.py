"""Measured inference time of the networks that runs left, beside their MACs; networks measured together are
interleaved.

Of a preset's runs arch.json suffices, as latency does not depend on what the weights are; runs whose networks are the
same share one measurement. Their table is results/<preset>/<dataset>/latency.csv. Single networks are folders of runs,
programs of torch.export (.pt2) and ONNX files: the rows of a folder go into its latency.csv, those of a file into
`<file>.latency.csv` beside it.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layerprune.core.measure import count_macs
from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError
from layerprune.library.checked_programs import module_of
from layerprune.library.latency import machine, measuring, onnx_passes
from layerprune.library.latency.engines import MeasuredModel
from layerprune.library.latency.machine import Say
from layerprune.library.latency.measuring import Conditions
from layerprune.library.network_files import load_program
from layerprune.suite import config, store
from layerprune.suite.folder import described_in
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

COLUMNS = (
    *("arch", "method", "variant", "seed", "batch", "threads", "device", "hardware"),
    *("macs", "median_ms", "low_ms", "high_ms", "repeats", "engine", "precision", "clock"),
)
_ORDER = (*COLUMNS[:5], "engine", "precision")


# --- of a preset's runs ---------------------------------------------------------------------------------------------


@dataclass
class Candidate:
    """A network, and the runs that left it."""

    model: MeasuredModel
    macs: int
    runs: list[RunKey]


def measure_runs(preset: str, datasets: Sequence[str], conditions: Conditions, say: Say) -> list[Path]:
    """Measure what the planned runs left, and write a table per data set that has any; returns the tables.

    Raises LayerpruneError if there is nothing to measure, for an arch.json that describes no network, and when
    another process measures.
    """
    found = {dataset: _candidates(preset, dataset) for dataset in datasets}
    if not any(found.values()):
        raise LayerpruneError(f"{paths.results(preset)}: no run has left a network to measure")
    with machine.alone(conditions.threads, say, paths.latency_lock()):
        return [_measure_dataset(preset, each, found[each], conditions, say) for each in datasets if found[each]]


def _candidates(preset: str, dataset: str) -> dict[str, list[Candidate]]:
    """Distinct networks by architecture."""
    planned = config.plan(config.load_preset(preset), preset, dataset)
    found: dict[str, Candidate] = {}
    for key in planned:
        description = store.arch(key)
        if description is not None:
            text = json.dumps(description, sort_keys=True)
            if text not in found:
                found[text] = Candidate(*_model_of(storage.described(description, paths.arch(key)), str(key)), [])
            found[text].runs.append(key)
    return _by_arch(found.values())


def _by_arch(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for each in candidates:
        groups.setdefault(each.runs[0].arch, []).append(each)
    return groups


def _measure_dataset(
    preset: str, dataset: str, groups: dict[str, list[Candidate]], conditions: Conditions, say: Say
) -> Path:
    rows = []
    for arch, candidates in groups.items():
        batches = ", ".join(map(str, conditions.batches))
        say(f"{dataset}/{arch}: {len(candidates)} different networks, batches of {batches}")
        rows += _rows(candidates, conditions, say, f"{dataset}/{arch}: ")
    path = paths.latency_table(preset, dataset)
    files.write_text(path, as_csv(rows))
    return path


def _rows(candidates: list[Candidate], conditions: Conditions, say: Say, title: str) -> list[dict[str, Any]]:
    """A row a run; runs with one network have the same numbers."""
    of_model = {id(each.model): each for each in candidates}
    return [
        numbers | _named(run) | {"macs": of_model[id(model)].macs}
        for model, numbers in measuring.measure([each.model for each in candidates], conditions, say, title)
        for run in of_model[id(model)].runs
    ]


def _named(run: RunKey) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("arch", "method", "variant", "seed")}


# --- of single networks ---------------------------------------------------------------------------------------------


def measure_networks(models: Sequence[Path], conditions: Conditions, say: Say) -> list[Path]:
    """Measure the networks of these folders and files side by side; returns the tables.

    Raises LayerpruneError for one that holds no network, and when another process measures.
    """
    found = {path: _model_in(path) for path in dict.fromkeys(models)}
    tables = []
    with machine.alone(conditions.threads, say, paths.latency_lock()):
        measured = list(measuring.measure(list(found.values()), conditions, say))
    if not measured:
        raise LayerpruneError(f"{models[0]}: nothing could be measured")
    for path, model in found.items():
        row = _name_of(path, model) | {"macs": model.macs if model.macs is not None else ""}
        rows = [row | numbers for of, numbers in measured if of is model]
        tables.append(table_of(path))
        files.write_text(tables[-1], as_csv(rows))
    return tables


def told(tables: Sequence[Path]) -> str:
    """What tables of single networks say, a line a measurement: the network, how it ran, median and quartiles."""
    rows = [(table, row) for table in tables for row in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))]
    names = {table: _short_name(table) for table in tables}
    width = max(len(name) for name in names.values())
    return "\n".join(f"{names[table]:{width}}  {_line(row)}" for table, row in rows)


def _short_name(table: Path) -> str:
    """The run's folder, or the file beside which the table lies."""
    return str(table.parent) if table.name == "latency.csv" else table.name.removesuffix(".latency.csv")


def _line(row: dict[str, str]) -> str:
    median, low, high = (f"{float(row[name]):.3f}" for name in ("median_ms", "low_ms", "high_ms"))
    return f"batch {row['batch']:>4}  {row['engine']} {row['precision']}  {median} ms [{low}, {high}]"


def table_of(path: Path) -> Path:
    """Where the rows of a folder or file go."""
    return paths.latency_in(path) if path.is_dir() else path.with_name(f"{path.name}.latency.csv")


def _model_in(path: Path) -> MeasuredModel:
    if path.is_dir():
        return _model_of(described_in(path), str(path))[0]
    if not path.is_file():
        raise LayerpruneError(f"{path}: no such run folder or file")
    return _of_onnx(path) if path.suffix == ".onnx" else _of_program(path)


def _of_program(path: Path) -> MeasuredModel:
    program = load_program(path)
    inputs, named = program.example_inputs or ((), {})
    if len(inputs) != 1 or named or not isinstance(inputs[0], torch.Tensor):
        raise LayerpruneError(f"{path}: takes other inputs than one batch")
    return MeasuredModel(str(path), module_of(program, path), tuple(inputs[0].shape[1:]), inputs[0].dtype)


def _of_onnx(path: Path) -> MeasuredModel:
    inputs = onnx_passes.inputs_of(path)
    kind, shape = inputs[0] if len(inputs) == 1 else ("", [])
    if kind not in onnx_passes.TYPES or not all(isinstance(size, int) for size in shape[1:]):
        raise LayerpruneError(f"{path}: takes other inputs than one batch of a known shape")
    return MeasuredModel(str(path), None, tuple(shape[1:]), file=path)


def _name_of(path: Path, model: MeasuredModel) -> dict[str, Any]:
    try:
        run = paths.parse_run_folder(path.resolve())
    except ValueError:
        arch = model.module.arch if path.is_dir() else path.name
        return {"arch": arch, "method": "", "variant": "", "seed": ""}
    return _named(run)


# --- networks and rows ----------------------------------------------------------------------------------------------


def _model_of(network: SectionedNetwork, name: str) -> tuple[MeasuredModel, int]:
    """A network to be measured under a name, and its multiply-adds. Raises LayerpruneError if it cannot compute."""
    try:
        macs = count_macs(network, network.input_shape)
    except RuntimeError as error:
        raise LayerpruneError(f"{name}: not a network's description: {error}") from None
    return MeasuredModel(name, network, network.input_shape), macs


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows in order, what a row lacks left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: [row[name] for name in _ORDER]))
    return text.getvalue()
