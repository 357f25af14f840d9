"""Measuring networks side by side: engine by engine, precision by precision, batch size by batch size."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from layerprune.core.measure import timing
from layerprune.core.measure.timing import Work
from layerprune.errors import LayerpruneError
from layerprune.library.latency import engines, machine
from layerprune.library.latency.conditions import Conditions, Engine, Precision
from layerprune.library.latency.machine import Say
from layerprune.library.latency.subject import Subject


class Measured(NamedTuple):
    """A subject, and its numbers by the names of a table's columns."""

    subject: Subject
    numbers: dict[str, Any]


def measure(subjects: Sequence[Subject], conditions: Conditions, say: Say, title: str = "") -> Iterator[Measured]:
    """Every subject under every combination; what cannot be measured is left out with one line.

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
            fitting = _fitting(subjects, engine, say, told)
            for batch in conditions.batches:
                yield from _side_by_side(fitting, engine, precision, batch, conditions, say, f"{told}, batch {batch}")


def _fitting(subjects: Sequence[Subject], engine: Engine, say: Say, told: str) -> list[Subject]:
    """Those that an engine can run at all."""
    fitting = [subject for subject in subjects if subject.module is not None or engine == "onnxruntime"]
    others = [subject.name for subject in subjects if subject not in fitting]
    if others:
        say(f"{told}: left out: {', '.join(others)}: an ONNX file can be run by onnxruntime only")
    return fitting


def _side_by_side(
    subjects: Sequence[Subject],
    engine: Engine,
    precision: Precision,
    batch: int,
    conditions: Conditions,
    say: Say,
    told: str,
) -> Iterator[Measured]:
    works: dict[int, Work] = {}
    reasons: dict[str, list[str]] = {}
    for place, subject in enumerate(subjects):
        try:
            works[place] = _prepared(subject, engine, precision, batch, conditions)
        except LayerpruneError as error:
            reasons.setdefault(str(error), []).append(subject.name)
    for reason, names in reasons.items():
        say(f"{told}: left out{'' if len(names) == len(subjects) else ': ' + ', '.join(names)}: {reason}")
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
        yield Measured(subjects[place], base | _quartiles(taken))


def _prepared(subject: Subject, engine: Engine, precision: Precision, batch: int, conditions: Conditions) -> Work:
    free = machine.free_bytes()
    # The system would end the process instead of refusing memory.
    if conditions.device.type == "cpu" and free is not None and subject.bytes_needed(batch) > free:
        raise LayerpruneError("does not fit into memory")
    return engines.prepare(subject, engine, precision, batch, conditions.device, conditions.threads)


def _quartiles(taken: Sequence[float]) -> dict[str, float]:
    """Median and quartiles by the names of their columns."""
    low, middle, high = (round(value, 5) for value in timing.quartiles(taken))
    return {"median_ms": middle, "low_ms": low, "high_ms": high}
