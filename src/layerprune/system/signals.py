"""A run that is told to end (SIGTERM) ends within its epoch, with its state on disk. Imports no torch.

So does a scheduler take its machine back, and so ends a job whose time is up. The exit status says that the run can be
taken up again; Snakemake's retries do so, and so does a scheduler that puts such jobs back into its queue.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REQUEUE = 75
"""Exit status of a run that was told to end: EX_TEMPFAIL of sysexits.h, "try again later"."""


class Preempted(Exception):
    """The state is written and the process should end now; its text is one line."""


class Notice:
    """Whether the process has been told to end."""

    def __init__(self) -> None:
        self.given = False

    def __bool__(self) -> bool:
        return self.given


@contextmanager
def noticed() -> Iterator[Notice]:
    """The notice that SIGTERM gives while this lasts; a second SIGTERM ends the process at once, as always.

    Outside the main thread, where Python hears no signals, none is ever given.
    """
    notice = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return

    def note(number: int, _: object) -> None:
        notice.given = True
        signal.signal(number, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, before)
