"""Inference latency of the networks that runs left, beside their MACs: results/<preset>/<dataset>/latency.csv.

Needs arch.json alone: latency does not depend on what the weights are. Runs whose networks are the same share one
measurement. The networks of an architecture take turns, so that a machine that slows down slows dense too, and
multiples of dense stay right. Milliseconds are those of one forward pass of the whole batch, images on the device.

Not in measure/: what lies there decides a run's numbers and is part of its record's source digest.
"""

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerprune import config, files, paths
from layerprune.errors import LayerpruneError
from layerprune.measure.counting import count_macs
from layerprune.models import saving
from layerprune.models.sections import SectionedNetwork
from layerprune.paths import RunKey
from layerprune.runner import cpu_name

BATCHES = (1, 128)
COLUMNS = (
    *("arch", "method", "variant", "seed", "batch", "threads", "device", "hardware"),
    *("macs", "median_ms", "low_ms", "high_ms", "repeats"),
)
LEAST_SECONDS = 0.005
"""Least length of one measurement: faster networks infer several times in it."""
WARM_UP = 3
IDLE_LOAD = 0.5
"""Mean number of running processes above which the machine is not called idle."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Conditions:
    """Under what to measure: where, batch sizes, measurements of each network, CPU threads."""

    device: torch.device
    batches: tuple[int, ...] = BATCHES
    repeats: int = 30
    threads: int = 1

    @property
    def hardware(self) -> str:
        """The device's model."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cpu_name()


@dataclass
class Candidate:
    """A network, and the runs that left it."""

    network: SectionedNetwork
    macs: int
    runs: list[RunKey]


def measure(preset: str, datasets: Sequence[str], conditions: Conditions, say: Say) -> list[Path]:
    """Measure what the planned runs left, and write a table per data set that has any; returns the tables.

    Raises LayerpruneError where there is nothing to measure, for an arch.json that describes no network, and when
    another process measures.
    """
    busy = "another process is measuring; two at once would disturb each other"
    with files.exclusive(paths.latency_lock(), busy), threads(conditions.threads):
        found = {dataset: _candidates(preset, dataset, conditions.device) for dataset in datasets}
        if not any(found.values()):
            raise LayerpruneError(f"{paths.results(preset)}: no run has left a network to measure")
        _warn_when_busy(say)
        return [_measure_dataset(preset, each, found[each], conditions, say) for each in datasets if found[each]]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warn_when_busy(say: Say) -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > IDLE_LOAD:
        say(f"the machine is not idle (load {load:.1f} in the last minute): what is measured now is no result")


# --- what to measure ------------------------------------------------------------------------------------------


def _candidates(preset: str, dataset: str, device: torch.device) -> dict[str, list[Candidate]]:
    """Distinct networks by architecture."""
    planned = config.plan(config.load_preset(preset), preset, dataset)
    found: dict[str, Candidate] = {}
    for key in planned:
        path = paths.arch(key)
        if path.is_file():
            text = json.dumps(files.read_json(path), sort_keys=True)
            if text not in found:
                found[text] = _candidate(path, device)
            found[text].runs.append(key)
    return _by_arch(found.values())


def _candidate(path: Path, device: torch.device) -> Candidate:
    network = saving.load_without_weights(path)
    try:
        macs = count_macs(network, network.input_shape)
    except RuntimeError as error:
        raise LayerpruneError(f"{path}: not a network's description: {error}") from None
    return Candidate(network.to(device, memory_format=torch.channels_last).eval(), macs, [])


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
        for batch in conditions.batches:
            say(f"{dataset}/{arch}: {len(candidates)} different networks, batch {batch}")
            rows += _rows(candidates, batch, conditions)
    path = paths.latency_table(preset, dataset)
    files.write_text(path, _as_csv(rows))
    return path


def _rows(candidates: list[Candidate], batch: int, conditions: Conditions) -> list[dict[str, Any]]:
    """A row a run; runs with one network have the same numbers."""
    shape = candidates[0].network.input_shape
    images = torch.rand(batch, *shape, device=conditions.device)
    times = milliseconds([each.network for each in candidates], images, conditions.repeats)
    base = {"batch": batch, "threads": conditions.threads, "device": conditions.device.type}
    base |= {"hardware": conditions.hardware, "repeats": conditions.repeats}
    return [
        base | _named(run) | _quartiles(taken) | {"macs": each.macs}
        for each, taken in zip(candidates, times, strict=True)
        for run in each.runs
    ]


def _named(run: RunKey) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("arch", "method", "variant", "seed")}


def _quartiles(taken: list[float]) -> dict[str, float]:
    low, middle, high = (round(float(value), 5) for value in np.percentile(taken, (25, 50, 75)))
    return {"median_ms": middle, "low_ms": low, "high_ms": high}


@torch.inference_mode()
def milliseconds(networks: Sequence[SectionedNetwork], images: Tensor, repeats: int) -> list[list[float]]:
    """Milliseconds of a forward pass of `images`, `repeats` for every network; the networks take turns."""
    calls = [_calls_needed(network, images) for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    for turn in range(repeats):
        places = range(len(networks))
        for place in places if turn % 2 == 0 else reversed(places):
            _seconds(networks[place], images, 1)  # so that the caches hold this network again
            times[place].append(1000 * _seconds(networks[place], images, calls[place]) / calls[place])
    return times


def _calls_needed(network: SectionedNetwork, images: Tensor) -> int:
    """Calls that fill LEAST_SECONDS, found after the warm-up."""
    _seconds(network, images, WARM_UP)
    return max(1, math.ceil(LEAST_SECONDS / max(_seconds(network, images, 1), 1e-6)))


def _seconds(network: SectionedNetwork, images: Tensor, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - began


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: [row[name] for name in COLUMNS[:5]]))
    return text.getvalue()
