"""A process of a campaign: begun, watched, told to end. It stays in the campaign's process group and dies with it."""

import signal
import subprocess
import sys
import tempfile
import time
from typing import BinaryIO

from layerprune.system import processes
from layerprune.system.paths import RunKey

LINES = 15
"""Lines of a process's output that are kept if it fails."""


def run_command(key: RunKey, device: str | None, threads: int) -> list[str]:
    """`layerprune run` for a run."""
    words = [sys.executable, "-m", "layerprune", "run", "--preset", key.preset, "--dataset", key.dataset]
    words += ["--arch", key.arch, "--method", key.method, "--variant", key.variant, "--seed", str(key.seed)]
    return [*words, "--threads", str(threads), *(["--device", device] if device else [])]


class Job:
    """A process and what it prints."""

    def __init__(self, words: list[str]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the job is known
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=deaf_to_interrupts,
        )

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def tell_to_end(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def printed(self) -> str:
        """The last lines of what it printed."""
        return last_lines(self.log)


def last_lines(log: BinaryIO) -> str:
    """The last lines of a file."""
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-LINES:])


def was_stopped(status: int) -> bool:
    """Whether a run ended because it was told to: with its state written, or before there was anything to write."""
    return status in (processes.REQUEUE, -signal.SIGTERM)


def deaf_to_interrupts() -> None:
    """Ctrl-C reaches the whole process group; the campaign alone hears it and tells its runs to store their state."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
