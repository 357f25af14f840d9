"""How long a preset would take: the runs' training steps times a dense step measured on this machine.

It is an upper bound for training, since pruned networks are cheaper than the dense one, and leaves out what is small
beside it: scoring, evaluation, and the start of each process. Runs are counted one after the other, or as several
devices would share them out.
"""

import heapq
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from layerprune.core import timing
from layerprune.core.data import catalog
from layerprune.core.data.batches import TrainingBatches, steps_per_epoch
from layerprune.core.data.catalog import DataSpec
from layerprune.core.data.dataset import DataSet, Split
from layerprune.core.methods import families
from layerprune.core.methods.base import Context, TrainingMethod
from layerprune.core.networks import layout, storage
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.settings import steps_of
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.state import StateFile
from layerprune.suite import config
from layerprune.suite.config import Preset, RunSettings
from layerprune.system.paths import RunKey

WARM_UP = 3
"""Steps before the measured ones."""
DENSE = partial(TrainingMethod, None)
"""Makes the method of the dense network."""
PIXELS_ON_CPU = 2**19
"""Of a step that is measured on a CPU: of larger batches a part is measured and the rest taken to last as long."""


@dataclass(frozen=True)
class Row:
    """One network on one data set; seconds of a step are of the dense network's."""

    dataset: str
    arch: str
    runs: int
    steps: int
    seconds_a_step: float

    @property
    def hours(self) -> float:
        return self.steps * self.seconds_a_step / 3600


def forecast(
    preset: Preset, name: str, dataset: str, device: torch.device, threads: int, measured_steps: int
) -> list[Row]:
    """A row for each network of a data set. Needs none of its images: steps are measured on random ones."""
    keys = config.plan(preset, name, dataset)
    rows = []
    for arch in dict.fromkeys(key.arch for key in keys):
        settings = [config.resolve(preset, key) for key in keys if key.arch == arch]
        seconds = seconds_a_step(settings[0], device, threads, measured_steps)
        rows.append(Row(dataset, arch, len(settings), sum(map(training_steps, settings)), seconds))
    return rows


def training_steps(settings: RunSettings) -> int:
    """Steps of a run itself, in steps of the dense network: Scratch-B's many cheap ones cost as much as dense's."""
    in_an_epoch = steps_per_epoch(_form(settings).train, settings.training.batch_size)
    own = settings.method_settings()
    if families()[settings.method] == "experiments":
        durations = [f"{epochs}ep" for epochs in getattr(own, "epochs", ())]
    elif families()[settings.method] == "scores" or settings.method == "by-index":
        durations = [settings.finetune.duration]
    elif getattr(own, "starts_from_dense", False):
        durations = [own.search, settings.finetune.duration]
    else:
        durations = [settings.training.duration]
    return sum(steps_of(duration, in_an_epoch) for duration in durations)


def _form(settings: RunSettings) -> DataSpec:
    return catalog.asked_forms(settings.dataset, settings.source)[0]


def seconds_a_step(
    settings: RunSettings, device: torch.device, threads: int, count: int, records: bool = True
) -> float:
    """Median time of a training step of the dense network on random images, of so many after some to warm up."""
    torch.set_num_threads(threads)
    batch = batch_measured(settings, device)
    data = noise(settings, (WARM_UP + count) * batch, device)
    trainer = trainer_on_noise(settings, data, WARM_UP + count, batch, device, records=records)
    steps = trainer._steps_of_epoch()
    times = [timing.seconds(partial(next, steps), device) for _ in range(WARM_UP + count)]
    trainer.forget_records()
    return statistics.median(times[WARM_UP:]) * settings.training.batch_size / batch


def batch_measured(settings: RunSettings, device: torch.device) -> int:
    """The batch, or as much of it as a CPU can do in seconds."""
    whole = settings.training.batch_size
    return whole if device.type == "cuda" else max(1, min(whole, PIXELS_ON_CPU // math.prod(_form(settings).shape[1:])))


def trainer_on_noise(
    settings: RunSettings,
    data: DataSet,
    steps: int,
    batch: int,
    device: torch.device,
    method: Callable[[SectionedNetwork, Context], TrainingMethod] = DENSE,
    records: bool = True,
) -> Trainer:
    """A trainer of the run's network that reads and writes nothing; `method` makes what it trains by."""
    training = settings.training
    network = build(settings.arch, data.shape, data.classes, generator("forecast", 0), settings.model)
    storage.check_can_be_saved(network)  # its runs would be refused
    network = layout.place(network, device).train()
    augment = training.augment if _form(settings).in_memory else "none"  # decoding is not measured
    batches = TrainingBatches(data.train, data.mean, data.std, batch, 0, augment, device)
    context = Context.of(network, len(data.train), training, steps, 0, device)
    job = Job(data, batches, training, training, steps, StateFile(None, "", 1e9), Progress(), records=records)
    return Trainer(network, method(network, context), job)


def noise(settings: RunSettings, count: int, device: torch.device) -> DataSet:
    """So many random images of the form of the run's; the splits share them."""
    spec, source = _form(settings), generator("forecast", 1)
    images = torch.randint(0, 256, (count, *spec.shape), generator=source, dtype=torch.uint8)
    split = Split(images, torch.randint(0, spec.classes, (count,), generator=source)).to(device)
    mean, std = (0.5,) * spec.channels, (0.25,) * spec.channels
    return DataSet("noise", "noise", spec.classes, split, split, split, mean, std, {})


def hours_of_runs(preset: Preset, name: str, rows: list[Row]) -> dict[RunKey, float]:
    """Hours of every run of these networks, in the order of the plan."""
    measured = {(row.dataset, row.arch): row.seconds_a_step / 3600 for row in rows}
    return {
        key: training_steps(config.resolve(preset, key)) * measured[key.dataset, key.arch]
        for dataset in dict.fromkeys(row.dataset for row in rows)
        for key in config.plan(preset, name, dataset)
    }


def hours_on(devices: int, preset: Preset, hours: dict[RunKey, float]) -> float:
    """Hours until the last run has ended, on this many devices, each making one run at a time.

    A device that is free takes the first run, in the order given, whose prerequisites have ended.
    """
    waiting = {key: {each for each in config.prerequisites(preset, key) if each in hours} for key in hours}
    order = {key: place for place, key in enumerate(hours)}
    ready = [place for key, place in order.items() if not waiting[key]]  # sorted, so a heap
    keys, running, now = list(hours), [], 0.0
    while ready or running:
        while ready and len(running) < devices:
            key = keys[heapq.heappop(ready)]
            heapq.heappush(running, (now + hours[key], order[key]))
        now, place = heapq.heappop(running)
        for key, missing in waiting.items():
            if keys[place] in missing:
                missing.remove(keys[place])
                if not missing:
                    heapq.heappush(ready, order[key])
    return now


def report(rows: list[Row]) -> str:
    """The rows as a table, and their sum."""
    lines = [f"{'data set':10} {'network':18} {'runs':>5} {'steps':>12} {'ms a step':>10} {'time':>9}"]
    for row in rows:
        milliseconds = 1000 * row.seconds_a_step
        lines.append(
            f"{row.dataset:10} {row.arch:18} {row.runs:5} {row.steps:12,} {milliseconds:10.1f} {duration(row.hours):>9}"
        )
    total = sum(row.hours for row in rows)
    lines.append(f"{sum(row.runs for row in rows)} runs, at most {duration(total)} of training one after the other")
    return "\n".join(lines)


def duration(hours: float) -> str:
    """Hours, or minutes if that would be 0.0 h, such as `2.5 h`, `12 min` and `0.4 min`."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 60 else f"{60 * hours:.1f} min"
