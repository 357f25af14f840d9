"""Processes: told to end, shared by torchrun, asked for an answer. Imports no torch.

A run that is told to end (SIGTERM) ends within its epoch, with its state on disk: so does a scheduler take its machine
back, and so ends a job whose time is up. The exit status says that the run can be taken up again; Snakemake's retries
do so, and so does a scheduler that puts such jobs back into its queue. Of a run that several processes share, torchrun
starts them, and ends the others when one dies or all should end.
"""

import getpass
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from layerprune.errors import LayerpruneError

# --- told to end ----------------------------------------------------------------------------------------------------

REQUEUE = 75
"""Exit status of a run that was told to end: EX_TEMPFAIL of sysexits.h, "try again later"."""


class Preempted(Exception):
    """The state is written and the process should end now; its text is one line."""


class Notice:
    """Whether the process has been asked to stop."""

    def __init__(self) -> None:
        self.given = False

    def __bool__(self) -> bool:
        return self.given


@contextmanager
def noticed(*signals: signal.Signals) -> Iterator[Notice]:
    """The notice that SIGTERM, or each of `signals`, gives while this lasts; a second one ends the process, as always.

    Outside the main thread, where Python hears no signals, none is ever given.
    """
    notice = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return

    def note(number: int, _: object) -> None:
        notice.given = True
        signal.signal(number, signal.SIG_DFL)

    before = {each: signal.signal(each, note) for each in signals or (signal.SIGTERM,)}
    try:
        yield notice
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


# --- shared by torchrun ---------------------------------------------------------------------------------------------

OF_A_SIGNAL = 128
"""Shells add it to a signal's number, for the exit status of a process that the signal ended."""


def share(processes: int, words: Sequence[str]) -> int:
    """Run `python -m layerprune WORDS...` in so many processes at once; returns the exit status.

    It is that of the process that failed first, or REQUEUE where this process was told to end and has told the others.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.disable(logging.CRITICAL)  # the processes say themselves what happened, in one line each
    with _heard() as heard:
        try:
            run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "layerprune", *words]))
        except SignalException as told:
            return REQUEUE if told.sigval == signal.SIGTERM else OF_A_SIGNAL + told.sigval
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            return status if status > 0 else OF_A_SIGNAL - status
        except Exception:
            # A signal that meets torchrun in a call to its store comes out as that call's failure.
            if signal.SIGTERM in heard():
                return REQUEUE
            raise
    return 0


@contextmanager
def _heard() -> Iterator[Callable[[], bytes]]:
    """A function that gives the numbers of the signals that came so far, whoever handled them. In the main thread."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield lambda: _available(reader)
    finally:
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()


def _available(reader: socket.socket) -> bytes:
    try:
        return reader.recv(4096)
    except BlockingIOError:
        return b""


@dataclass(frozen=True)
class TorchrunPlace:
    """What torchrun tells each process that it starts: which it is of how many, in all and on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def torchrun_place() -> TorchrunPlace | None:
    """This process's place; None where torchrun did not start it. Raises LayerpruneError for half of a place."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    told = {name: os.environ[name] for name in names if name in os.environ}
    if "WORLD_SIZE" not in told:
        return None
    try:
        return TorchrunPlace(*(int(told[name]) for name in names))
    except (KeyError, ValueError):
        raise LayerpruneError(f"{', '.join(names)}: all four are numbers under torchrun, here {told}") from None


# --- of a user without a name ---------------------------------------------------------------------------------------


def name_user() -> None:
    """Give a user a name who has none, as in a container: Snakemake and torch's compiler ask for it and would fail."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        os.environ["LOGNAME"] = f"user{os.getuid()}"


# --- asked for an answer --------------------------------------------------------------------------------------------


def gpus_given() -> int:
    """How many GPUs this process may use, without torch: the machine's, or those of them in CUDA_VISIBLE_DEVICES."""
    there, given = len(output_of("nvidia-smi", "-L").splitlines()), os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return there
    return min(there, len(list(takewhile(lambda name: name.strip() not in ("", "-1"), given.split(",")))))


def output_of(*words: str) -> str:
    """What a command prints, stripped; empty where it is not installed, fails or takes longer than 20 seconds."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
