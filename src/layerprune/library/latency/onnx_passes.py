"""Passes of an ONNX file, which may be a stranger's: opening it or a pass may never end, or end the process.

So onnxruntime works on it in another process (`onnx_process.py`), and every answer has its time: that one pass ended
says nothing of the next, as a loop may draw how long it is.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.library.latency import onnx_process
from layerprune.library.latency.onnx_process import TYPES

__all__ = ["MOST_SECONDS", "TYPES", "Passes", "inputs_of"]

MOST_SECONDS = 120.0
"""A file that takes longer to open, or for a pass, is not measured: measuring it makes thirty."""


class Passes:
    """Work for `core/timing.py`: passes with a batch of this size of a file, which is open.

    `inputs` are types and shapes by onnxruntime's names. Raises LayerpruneError for a file that onnxruntime does not
    take, does not end with in time, or dies of.
    """

    def __init__(self, path: Path, batch: int, threads: int) -> None:
        onnx_files.need_packages()
        self.path, self.batch = path, batch
        # A script by its path, with -P: modules are looked for neither where one stands nor beside it.
        words = [sys.executable, "-P", onnx_process.__file__, str(path), str(threads), str(MOST_SECONDS)]
        pipe, began = subprocess.PIPE, time.monotonic()
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.close = weakref.finalize(self, _end, self.process)
        self.inputs: list[tuple[str, list]] = self._answer("opening it takes", began)

    def __call__(self) -> float:
        return self._made(1)

    def seconds(self, calls: int) -> float:
        """Seconds that so many passes take, by their process's clock; an error names the file."""
        try:
            return self._made(calls)
        except LayerpruneError as error:
            raise LayerpruneError(f"{self.path}: {error}") from None

    def _made(self, calls: int) -> float:
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # of a process that has died, and `_answer` says how
            self.process.stdin.write(f"{self.batch} {calls}\n")
            self.process.stdin.flush()
        return self._answer("a pass takes", began)

    def _answer(self, what: str, began: float) -> Any:
        """`began` is from before the process was asked, so that its clock cannot have run for longer than this one."""
        line = self.process.stdout.readline()
        late = time.monotonic() - began >= MOST_SECONDS
        told = json.loads(line) if line.endswith("\n") else {"error": self._last_words(what, late)}
        if isinstance(told, dict):
            self.close()
            raise LayerpruneError(told["error"])
        return told

    def _last_words(self, what: str, late: bool) -> str:
        status = self.process.wait()
        if late:
            return f"{what} more than {MOST_SECONDS:g} seconds"
        return f"onnxruntime crashes on it ({signal.Signals(-status).name if status < 0 else f'status {status}'})"


def inputs_of(path: Path) -> list[tuple[str, list]]:
    """Types and shapes of a file's inputs, by onnxruntime's names. Raises LayerpruneError like `Passes`."""
    try:
        with contextlib.closing(Passes(path, batch=1, threads=1)) as opened:
            return opened.inputs
    except LayerpruneError as error:
        raise LayerpruneError(f"{path}: {error}") from None


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
