"""Measuring networks side by side: engine by engine, precision by precision, batch size by batch size."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from layerprune.core import timing
from layerprune.core.timing import Work
from layerprune.errors import LayerpruneError
from layerprune.library.arguments import is_whole, require
from layerprune.library.latency import engines, machine
from layerprune.library.latency.engines import ENGINES, PRECISIONS, Engine, MeasuredModel, Precision
from layerprune.library.latency.machine import Say
from layerprune.system.devices import choose_device

STUDY_BATCHES = (1, 128)
"""Batch sizes where a preset's runs are measured, and where single networks are."""
SINGLE_BATCHES = (1, 32, 256)
GPU_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Where the library measures on a GPU: small batches take as long as their launches, large ones as their layers."""


@dataclass(frozen=True)
class Conditions:
    """Where, with what batch sizes, how many measurements of each network, CPU threads, engines and precisions.

    Every engine is combined with every precision and batch size.
    """

    device: torch.device
    batches: tuple[int, ...] = STUDY_BATCHES
    repeats: int = 30
    threads: int = 1
    engines: tuple[Engine, ...] = ("eager",)
    precisions: tuple[Precision, ...] = ("fp32",)


def chosen(option: str, words: str, known: tuple[str, ...]) -> tuple:
    """What words separated by commas name, each once. Raises LayerpruneError for one that is not known."""
    named = [word.strip() for word in words.split(",")]
    for word in named:
        if word not in known:
            raise LayerpruneError(f"{option}: '{word}' is not known (known: {', '.join(known)})")
    return tuple(dict.fromkeys(named))


def _remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_latency(
    models: Mapping[str, nn.Module],
    example_input: Tensor,
    *,
    batches: Sequence[int] | None = None,
    engines: Sequence[str] = ("eager",),
    precisions: Sequence[str] = ("fp32",),
    device: str | torch.device = "cpu",
    threads: int = 1,
    repeats: int = 30,
    say: Say = _remark,
) -> list[dict[str, Any]]:
    """Milliseconds per forward pass; the models alternate.

    One row for each of `models`, `engines`, `precisions` and `batches` (sizes).

    `example_input` [B, ...] gives an input's shape; the modules do not change. A row has `model`, `macs`, `median_ms`,
    `low_ms`, `high_ms` (quartiles of the `repeats`), and the conditions: `batch`, `engine` (eager, compiled, graphed,
    onnxruntime), `precision` (fp32, bf16), `threads`, `device`, `hardware`, `clock`. A combination that cannot be
    measured has no row; `say` receives the reason, and a warning if the machine is not idle or two models have the same
    layers.

    On a GPU, CUDA events take the times. An eager pass of a small batch takes as long as the host needs to launch its
    operations, whatever was removed; `graphed` launches a recorded pass at once (CUDA graphs) and shows the device's
    time. `batches` defaults to (1, 32, 256), on a GPU to 1, 2, 4 ... 256.

    Raises LayerpruneError for an unknown engine, precision or device, and while another process measures.
    """
    _check(models, example_input, batches, threads, repeats)
    chosen_device = choose_device(str(device))
    conditions = Conditions(
        chosen_device,
        tuple(batches or (GPU_BATCHES if chosen_device.type == "cuda" else SINGLE_BATCHES)),
        repeats,
        threads,
        chosen("engines", ",".join(engines), ENGINES),
        chosen("precisions", ",".join(precisions), PRECISIONS),
    )
    _warn_of_twins(models, say)
    shape = tuple(example_input.shape[1:])
    found = [MeasuredModel(name, module, shape, example_input.dtype) for name, module in models.items()]
    with machine.alone(threads, say):
        measured = list(measure(found, conditions, say))
    return [{"model": model.name, "macs": model.macs} | numbers for model, numbers in measured]


def _check(models: Any, example_input: Any, batches: Any, threads: Any, repeats: Any) -> None:
    """Raises LayerpruneError for arguments that nothing can be measured with."""
    wanted = 'models are modules by name, as {"whole": whole, "smaller": smaller}'
    require(isinstance(models, Mapping), "measure_latency", wanted, models)
    for each in models.values():
        require(isinstance(each, nn.Module), "measure_latency", wanted, each)
    is_example = isinstance(example_input, Tensor) and example_input.dim() > 0
    require(is_example, "measure_latency", "example_input is a tensor [B, ...]", example_input)
    are_sizes = batches is None or (isinstance(batches, Sequence) and all(map(is_whole, batches)))
    require(are_sizes, "measure_latency", "batches are whole numbers in a list", batches)
    for name, value in (("threads", threads), ("repeats", repeats)):
        require(is_whole(value), "measure_latency", f"{name} is a whole number", value)
    if not models or min([*(batches or ()), threads, repeats]) < 1 or (batches is not None and not batches):
        raise LayerpruneError("measure_latency: give a model, and batches, threads and repeats of 1 or more")


def _warn_of_twins(models: Mapping[str, nn.Module], say: Say) -> None:
    """Pruning cuts a model in place, so a pruned network is easily compared with itself."""
    first: dict[tuple, str] = {}
    for name, module in models.items():
        twin = first.setdefault(_layers(module), name)
        if twin != name:
            say(
                f"{twin} and {name} have the same layers; pruning cuts a model in place: "
                "to compare with the whole network, keep a copy.deepcopy of it"
            )


def _layers(module: nn.Module) -> tuple[tuple[str, torch.Size], ...]:
    """Names and shapes of parameters, which tell a whole network from a pruned one."""
    return tuple((name, each.shape) for name, each in module.named_parameters())


# --- side by side --------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """A model, and its numbers by the names of a table's columns."""

    model: MeasuredModel
    numbers: dict[str, Any]


def measure(models: Sequence[MeasuredModel], conditions: Conditions, say: Say, title: str = "") -> Iterator[Measured]:
    """Every model under every combination; what cannot be measured is left out with one line.

    The caller has seen to it that nobody else measures (machine.alone).
    """
    for engine in conditions.engines:
        for precision in conditions.precisions:
            told = f"{title}{engine}, {precision}"
            try:
                engines.try_out(engine, precision, conditions.device, conditions.threads)
            except LayerpruneError as error:
                say(f"{told}: left out: {error}")
                continue
            fitting = _fitting(models, engine, say, told)
            for batch in conditions.batches:
                yield from _side_by_side(fitting, engine, precision, batch, conditions, say, f"{told}, batch {batch}")


def _fitting(models: Sequence[MeasuredModel], engine: Engine, say: Say, told: str) -> list[MeasuredModel]:
    """Those that an engine can run at all."""
    fitting = [model for model in models if model.module is not None or engine == "onnxruntime"]
    others = [model.name for model in models if model not in fitting]
    if others:
        say(f"{told}: left out: {', '.join(others)}: only onnxruntime runs ONNX files")
    return fitting


def _side_by_side(
    models: Sequence[MeasuredModel],
    engine: Engine,
    precision: Precision,
    batch: int,
    conditions: Conditions,
    say: Say,
    told: str,
) -> Iterator[Measured]:
    works: dict[int, Work] = {}
    reasons: dict[str, list[str]] = {}
    for place, model in enumerate(models):
        try:
            works[place] = _prepared(model, engine, precision, batch, conditions)
        except LayerpruneError as error:
            reasons.setdefault(str(error), []).append(model.name)
    for reason, names in reasons.items():
        say(f"{told}: left out{'' if len(names) == len(models) else ': ' + ', '.join(names)}: {reason}")
    times = timing.milliseconds(list(works.values()), conditions.repeats, conditions.device)
    base = {
        "batch": batch,
        "threads": conditions.threads,
        "device": conditions.device.type,
        "hardware": machine.hardware(conditions.device),
        "repeats": conditions.repeats,
        "engine": engine,
        "precision": precision,
        "clock": machine.clock(conditions.device),  # now that it has been at work
    }
    for place, taken in zip(works, times, strict=True):
        yield Measured(models[place], base | _quartiles(taken))


def _prepared(model: MeasuredModel, engine: Engine, precision: Precision, batch: int, conditions: Conditions) -> Work:
    free = machine.free_bytes()
    # The system would end the process instead of refusing memory.
    if conditions.device.type == "cpu" and free is not None and model.bytes_needed(batch) > free:
        raise LayerpruneError("does not fit into memory")
    return engines.prepare(model, engine, precision, batch, conditions.device, conditions.threads)


def _quartiles(taken: Sequence[float]) -> dict[str, float]:
    """Median and quartiles by the names of their columns."""
    low, middle, high = (round(value, 5) for value in timing.quartiles(taken))
    return {"median_ms": middle, "low_ms": low, "high_ms": high}
