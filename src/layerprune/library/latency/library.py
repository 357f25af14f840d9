"""Latency of anybody's modules."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library.latency import machine, subjects
from layerprune.library.latency.conditions import ENGINES, PRECISIONS, SINGLE_BATCHES, Conditions, chosen
from layerprune.library.latency.machine import Say
from layerprune.library.latency.subject import Subject
from layerprune.system.devices import choose_device


def _remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_latency(
    models: Mapping[str, nn.Module],
    example_input: Tensor,
    *,
    batches: Sequence[int] = SINGLE_BATCHES,
    engines: Sequence[str] = ("eager",),
    precisions: Sequence[str] = ("fp32",),
    device: str | torch.device = "cpu",
    threads: int = 1,
    repeats: int = 30,
    say: Say = _remark,
) -> list[dict[str, Any]]:
    """Milliseconds of a forward pass of each model, in turns: a row a model, engine, precision and batch size.

    `example_input` [B, ...] gives an input's shape; the modules stay as they are. A row has `model`, `macs`,
    `median_ms`, `low_ms`, `high_ms` (quartiles of the `repeats`), and what it was measured with: `batch`, `engine`
    (eager, compiled, onnxruntime), `precision` (fp32, bf16), `threads`, `device`, `hardware`, `clock`. What cannot be
    measured has no row; `say` is told why, and where the machine is not idle.

    Raises LayerpruneError for an unknown engine, precision or device, and while another process measures.
    """
    if not models or min([*batches, threads, repeats]) < 1:
        raise LayerpruneError("measure_latency: give a model, and batches, threads and repeats of 1 or more")
    conditions = Conditions(
        choose_device(str(device)),
        tuple(batches),
        repeats,
        threads,
        chosen("engines", ",".join(engines), ENGINES),
        chosen("precisions", ",".join(precisions), PRECISIONS),
    )
    shape = tuple(example_input.shape[1:])
    found = [Subject(name, module, shape, example_input.dtype) for name, module in models.items()]
    with machine.alone(threads, say):
        measured = list(subjects.measure(found, conditions, say))
    return [{"model": subject.name, "macs": subject.macs} | numbers for subject, numbers in measured]
