"""The threads of the process that has lanes: each carries one run from its preparation to its record.

Runs cannot disturb each other by what is global to a process: they draw random numbers from generators of their own
(core.seeding) and compute in streams of their own; threads and arithmetic are set alike for all; one thread hears the
signals for all. Runs that need more of a process (a compiler, processes that decode images, a clock) are not made in
lanes: see places.py.
"""

import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from layerprune.core.data.dataset import DataSet
from layerprune.core.data.loading import Reading, load
from layerprune.errors import LayerpruneError
from layerprune.suite import config, forecast
from layerprune.suite import run as running
from layerprune.suite.campaign import jobs, lanes, measuring, selftest, sweep
from layerprune.suite.config import Preset
from layerprune.suite.run.prepare import Lane
from layerprune.system import paths
from layerprune.system.devices import borrowed, choose_device, exact_float32, fastest_convolutions, own_stream
from layerprune.system.paths import RunKey
from layerprune.system.processes import REQUEUE, Notice, Preempted, noticed

Message = dict[str, Any]


class Host:
    """Carries out requests, as many at a time as there are lanes, and reports how each ended."""

    def __init__(self, preset: Preset, device: str, threads: int, tell: Callable[[Message], None]) -> None:
        self.preset = preset
        self.device = choose_device(device)
        self.threads = threads
        self.load = SharedData()
        self.notice = Notice()
        self.requests: SimpleQueue[Message | None] = SimpleQueue()
        self.lanes: list[threading.Thread] = []
        self.count = 0
        self._tell = tell
        self._one_at_a_time = threading.Lock()

    def serve(self, messages: Iterable[Message]) -> None:
        """Until the messages end, or whoever sends them."""
        exact_float32()
        with (
            noticed() as self.notice,
            borrowed(self.device, self.preset.resources.runs_per_gpu, _say) as self.device,
        ):
            for message in messages:
                if message["do"] == "end":
                    self.notice.given = True
                elif message["do"] == "open":
                    self.count = message["count"]
                    self._open(self.count)
                else:
                    self._open(1)
                    self.requests.put(message)
            self.notice.given = True
            self._close()

    def _open(self, count: int) -> None:
        while len(self.lanes) < count:
            self.lanes.append(threading.Thread(target=self._work))
            self.lanes[-1].start()

    def _close(self) -> None:
        for _ in self.lanes:
            self.requests.put(None)
        for lane in self.lanes:
            lane.join()

    def _work(self) -> None:
        torch.set_num_threads(self.threads)
        with own_stream(self.device):
            while (message := self.requests.get()) is not None:
                status, words = self._status_of(message)
                with self._one_at_a_time:
                    self._tell({"id": message["id"], "status": status, "words": words})

    def _status_of(self, message: Message) -> tuple[int, str]:
        """How an errand ended, and its output; statuses are those of `layerprune run`."""
        try:
            return 0, getattr(self, f"_do_{message['do']}")(message)
        except Preempted:
            return REQUEUE, ""
        except LayerpruneError as error:
            return 2, str(error)
        except Exception:  # of one lane: the others go on
            return lanes.CRASHED, "\n".join(traceback.format_exc().splitlines()[-jobs.LINES :])

    def _do_run(self, message: Message) -> str:
        said: list[str] = []
        lane = Lane(self.device, self.notice, self.load, self.count)
        running.run(_key(message["run"]), str(self.device), self.threads, lambda *_: None, said.append, lane=lane)
        return "\n".join(said)

    def _do_check(self, message: Message) -> str:
        settings = config.resolve(self.preset, _key(message["run"]))
        return json.dumps(asdict(selftest.check(settings, self.device)))

    def _do_warm_up(self, message: Message) -> str:
        """A run's first steps, before other lanes open: they choose the kernels that all lanes will find chosen."""
        if self.device.type == "cuda":
            with fastest_convolutions():
                settings = config.resolve(self.preset, _key(message["run"]))
                forecast.seconds_a_step(settings, self.device, self.threads, count=1, records=False)
        return ""

    def _do_sweep(self, message: Message) -> str:
        settings, counts = config.resolve(self.preset, _key(message["run"])), message["counts"]
        found = sweep.sweep(settings, self.device, self.threads, counts, message["seconds"], self.notice)
        return json.dumps(list(found.items()))

    def _do_measure(self, message: Message) -> str:
        return measuring.line(self.preset, list(map(_key, message["runs"])), self.device, self.threads)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _key(name: str) -> RunKey:
    return paths.parse_run_folder(Path(name))


class SharedData:
    """Data sets, each read once for all lanes; nobody changes them."""

    def __init__(self) -> None:
        self._read: dict[tuple, DataSet] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, name: str, root: Path, device: torch.device, reading: Reading) -> DataSet:
        asked = name, root, device, reading
        with self._one_at_a_time:
            if asked not in self._read:
                self._read[asked] = load(*asked)
                if device.type == "cuda":
                    torch.cuda.current_stream().synchronize()  # other streams will read it
            return self._read[asked]
