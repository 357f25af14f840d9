"""What it costs that two processes share a run: gradients' exchange, and theta's, whose message is timed by itself too.

Two processes on this machine, one thread each, make the same steps side by side, first each for itself, then together;
the ratio of medians over both. Exchange is by gloo, within one machine.
"""

import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from bench.steps import BATCH, GATED, TRAINING, network_of, steps_of
from bench.timing import Measurement
from layerprune.core.gates.estimators import TwoSided
from layerprune.core.settings import NoSettings, TrainingSettings
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup, joined
from layerprune.system.processes import TorchrunPlace

SIZE, ARCH = 2, "resnet-20"
CPU = torch.device("cpu")
SETTINGS = {"dense": NoSettings(), "gated": GATED}
THETA = "theta"
"""In place of a method: the message alone that gated training sends beside the gradients, a step."""
WARM_UP = 2


def in_process(rank: int, port: int, folder: str, method: str, together: bool, steps: int) -> None:
    """One of the processes: writes the time of each step."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    training = TRAINING.model_copy(update={"batch_size": BATCH if together else BATCH // SIZE})
    with joined(TorchrunPlace(rank, SIZE, rank, SIZE), CPU) as group:
        step = _step_of(method, training, group if together else SINGLE_PROCESS)
        times = []
        for _ in range(WARM_UP + steps):
            group.meet()
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    Path(folder, str(rank)).write_text(json.dumps(times[WARM_UP:]))


def _step_of(method: str, training: TrainingSettings, group: ProcessGroup) -> Callable[[], object]:
    network = network_of(ARCH)
    if method == THETA:
        return partial(group.add_up, *(torch.zeros(TwoSided.rows, len(network.sections)) for _ in ("sums", "counts")))
    return steps_of(network, method, SETTINGS[method], training, steps=1, group=group)


def seconds_a_step(method: str, together: bool, steps: int) -> float:
    """Median time of a step of both processes, each with its half of a batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        words = port, folder, method, together, steps
        started = [context.Process(target=in_process, args=(rank, *words)) for rank in range(SIZE)]
        for each in started:
            each.start()
        for each in started:
            each.join()
        times = [json.loads(Path(folder, str(rank)).read_text()) for rank in range(SIZE)]
    return statistics.median(time for own in times for time in own)


def measure(rounds: int, steps: int) -> Iterator[Measurement]:
    """Dense and gated steps, shared against each for itself, and gated shared against dense shared."""
    cases = [*((name, way) for name in SETTINGS for way in (False, True)), (THETA, True)]
    seconds: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, found in seconds.items():
            found.append(seconds_a_step(*case, steps))
    for method in SETTINGS:
        name = f"{method} step shared by {SIZE} processes / each for itself, {ARCH}"
        yield _ratio(name, seconds[method, False], seconds[method, True])
    yield _ratio(f"gated step / dense step, shared by {SIZE} processes, {ARCH}", *(seconds[m, True] for m in SETTINGS))
    name = f"theta's message / dense step, shared by {SIZE} processes, {ARCH}"
    yield _ratio(name, seconds["dense", True], seconds[THETA, True])


def _ratio(name: str, first: list[float], second: list[float]) -> Measurement:
    ratios = sorted(late / early for early, late in zip(first, second, strict=True))
    return Measurement(name, statistics.median(ratios), ratios[0], ratios[-1], len(ratios), note="range, not quartiles")
