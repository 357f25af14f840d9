"""Lanes: one process that makes several runs at a time, each in a thread. It is asked and answers in lines of JSON.

On a GPU the kernels of such runs overlap; those of separate processes do not. The process is the campaign's child:
whatever becomes of it, the campaign goes on with processes. python -m layerprune.suite.campaign.lanes PRESET DEVICE
THREADS is that process; torch, and what threads do (suite.campaign.host), are imported only there.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from layerprune.suite import config
from layerprune.suite.campaign import jobs
from layerprune.system import cpu, processes
from layerprune.system.paths import RunKey

PATIENCE = 3.0
"""Seconds that the process gets to end once it is idle."""
LOST = 70
"""Status of what the process was doing when it died: EX_SOFTWARE of sysexits.h."""
CRASHED = 1
"""Status of an errand that ended in an error which is no user's."""


def command(preset: str, device: str, threads: int) -> list[str]:
    """What starts the process."""
    return [sys.executable, "-m", __spec__.name, preset, device, str(threads)]


class Lanes:
    """The process, and what it has answered. `count` lanes are open."""

    def __init__(self, words: list[str]) -> None:
        self.count = 0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the process is known
        self.answers: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count()
        self._told = False
        self._killed = False
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = subprocess.Popen(words, preexec_fn=jobs.deaf_to_interrupts, **pipes)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def open(self, count: int) -> None:
        """Open this many lanes."""
        self.count = count
        self._send({"do": "open", "count": count})

    def run(self, key: RunKey) -> "Errand":
        """Make a run."""
        return self.ask("run", run=str(key))

    def measure(self, keys: list[RunKey]) -> "Errand":
        """Measure the step that these runs share; what is printed is suite.campaign.measuring's."""
        return self.ask("measure", runs=[str(key) for key in keys])

    def ask(self, what: str, **told: Any) -> "Errand":
        """Ask one lane to do something."""
        number = next(self._numbers)
        self._send({"id": number, "do": what} | told)
        return Errand(self, number)

    def status(self) -> int | None:
        """Status of errands without an answer; None as long as one may come."""
        if self._listener.is_alive():
            return None
        if self._killed:
            return -signal.SIGKILL
        return processes.REQUEUE if self._told else LOST

    def tell_to_end(self) -> None:
        """Make every lane store its state; once, however often this is called."""
        if not self._told and self.process.poll() is None:
            self._told = True
            self._send({"do": "end"})

    def kill(self) -> None:
        if self.process.poll() is None:
            self._killed = True
            self.process.kill()
        self.process.wait()
        self._listener.join()

    def close(self) -> None:
        """End the process, which has nothing left to do."""
        self.tell_to_end()
        try:
            self.process.stdin.close()
            self.process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()

    def printed(self) -> str:
        """The last lines of what it printed."""
        return jobs.last_lines(self.log)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            pass  # it is gone, which `status` tells

    def _listen(self) -> None:
        for line in self.process.stdout:
            answer = json.loads(line)
            self.answers[answer["id"]] = answer
        self.process.wait()


class Errand:
    """Something that a lane does; to a campaign it is a job."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self.lanes = lanes
        self.number = number
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def answer(self) -> dict[str, Any] | None:
        return self.lanes.answers.get(self.number)

    def status(self) -> int | None:
        """Its exit status, as a process would have it; None while it runs."""
        ended = self.lanes.status()  # before the answer, which comes first where both come
        return self.answer["status"] if self.answer is not None else ended

    def tell_to_end(self) -> None:
        self.lanes.tell_to_end()

    def kill(self) -> None:
        """Ends all lanes: no thread can be ended alone."""
        self.lanes.kill()

    def printed(self) -> str:
        """Its output; for an errand without an answer, what the process printed last."""
        return self.answer["words"] if self.answer is not None else self.lanes.printed()


def main(name: str, device: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    preset = config.load_preset(name)
    cpu.choose(preset.resources.cpu_kernels)  # before torch is imported
    from layerprune.suite.campaign.host import Host

    def tell(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    Host(preset, device, int(threads), tell).serve(map(json.loads, sys.stdin))


if __name__ == "__main__":
    main(*sys.argv[1:])
