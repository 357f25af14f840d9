"""A run that several processes share: torchrun starts them, and ends the others when one dies or all should end."""

import logging
import signal
from collections.abc import Sequence

from layerprune import preemption

OF_A_SIGNAL = 128
"""Shells add it to a signal's number, for the exit status of a process that the signal ended."""


def share(processes: int, words: Sequence[str]) -> int:
    """Run `python -m layerprune WORDS...` in so many processes at once; returns the exit status.

    It is that of the process that failed first, or preemption.REQUEUE where this process was told to end and has told
    the others.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.disable(logging.CRITICAL)  # the processes say themselves what happened, in one line each
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "layerprune", *words]))
    except SignalException as told:
        return preemption.REQUEUE if told.sigval == signal.SIGTERM else OF_A_SIGNAL + told.sigval
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else OF_A_SIGNAL - status
    return 0
