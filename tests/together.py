"""A task in two processes that talk to each other (gloo), and what each of them answers."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import warm

from layerprune.errors import LayerpruneError
from layerprune.system.process_group import ProcessGroup, joined
from layerprune.system.processes import TorchrunPlace

CPU = torch.device("cpu")
SIZE = 2


@dataclass(frozen=True)
class Answers:
    """Of each process its answer as text, None for one that died; and how long it took."""

    texts: list[str | None]
    seconds: float


def run_together(task: Callable[[ProcessGroup], list], folder: Path) -> Answers:
    """Run a task, a function of a module, in two processes; their answers pass through files in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    started = [warm.CONTEXT.Process(target=_child, args=(rank, port, str(folder), task)) for rank in range(SIZE)]
    for each in started:
        each.start()
    for each in started:
        each.join(90)
        assert each.exitcode is not None, "it hangs"
    files = [folder / str(rank) for rank in range(SIZE)]
    texts = [file.read_text() if file.exists() else None for file in files]
    return Answers(texts, time.monotonic() - began)


def _child(rank: int, port: int, folder: str, task: Callable[[ProcessGroup], list]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        with joined(TorchrunPlace(rank, SIZE, rank, SIZE), CPU) as group:
            answer = str(task(group))
    except LayerpruneError as error:
        answer = f"error: {error}"
    Path(folder, str(rank)).write_text(answer)
