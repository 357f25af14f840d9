"""Latency of the networks that a preset's runs left, beside their MACs: results/<preset>/<dataset>/latency.csv.

Needs arch.json alone: latency does not depend on what the weights are. Runs whose networks are the same share one
measurement. The networks of an architecture take turns.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerprune.core.measure import count_macs
from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError
from layerprune.library.latency import machine, measuring
from layerprune.library.latency.engines import MeasuredModel
from layerprune.library.latency.machine import Say
from layerprune.library.latency.measuring import Conditions
from layerprune.suite import config, store
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

COLUMNS = (
    *("arch", "method", "variant", "seed", "batch", "threads", "device", "hardware"),
    *("macs", "median_ms", "low_ms", "high_ms", "repeats", "engine", "precision", "clock"),
)
_ORDER = (*COLUMNS[:5], "engine", "precision")


@dataclass
class Candidate:
    """A network, and the runs that left it."""

    model: MeasuredModel
    macs: int
    runs: list[RunKey]


def measure(preset: str, datasets: Sequence[str], conditions: Conditions, say: Say) -> list[Path]:
    """Measure what the planned runs left, and write a table per data set that has any; returns the tables.

    Raises LayerpruneError where there is nothing to measure, for an arch.json that describes no network, and when
    another process measures.
    """
    found = {dataset: _candidates(preset, dataset) for dataset in datasets}
    if not any(found.values()):
        raise LayerpruneError(f"{paths.results(preset)}: no run has left a network to measure")
    with machine.alone(conditions.threads, say, paths.latency_lock()):
        return [_measure_dataset(preset, each, found[each], conditions, say) for each in datasets if found[each]]


# --- what to measure ------------------------------------------------------------------------------------------


def _candidates(preset: str, dataset: str) -> dict[str, list[Candidate]]:
    """Distinct networks by architecture."""
    planned = config.plan(config.load_preset(preset), preset, dataset)
    found: dict[str, Candidate] = {}
    for key in planned:
        description = store.arch(key)
        if description is not None:
            text = json.dumps(description, sort_keys=True)
            if text not in found:
                found[text] = Candidate(*model_of(storage.described(description, paths.arch(key)), str(key)), [])
            found[text].runs.append(key)
    return _by_arch(found.values())


def model_of(network: SectionedNetwork, name: str) -> tuple[MeasuredModel, int]:
    """A network to be measured under a name, and its multiply-adds. Raises LayerpruneError if it cannot compute."""
    try:
        macs = count_macs(network, network.input_shape)
    except RuntimeError as error:
        raise LayerpruneError(f"{name}: not a network's description: {error}") from None
    return MeasuredModel(name, network, network.input_shape), macs


def _by_arch(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for each in candidates:
        groups.setdefault(each.runs[0].arch, []).append(each)
    return groups


# --- measuring ------------------------------------------------------------------------------------------------


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


# --- the table ------------------------------------------------------------------------------------------------


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows in order, what a row lacks left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: [row[name] for name in _ORDER]))
    return text.getvalue()
