"""A run that several processes share: torchrun starts them, and ends the others when one dies or all should end."""

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from layerprune.errors import LayerpruneError
from layerprune.system import signals

OF_A_SIGNAL = 128
"""Shells add it to a signal's number, for the exit status of a process that the signal ended."""


def share(processes: int, words: Sequence[str]) -> int:
    """Run `python -m layerprune WORDS...` in so many processes at once; returns the exit status.

    It is that of the process that failed first, or signals.REQUEUE where this process was told to end and has told
    the others.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.disable(logging.CRITICAL)  # the processes say themselves what happened, in one line each
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "layerprune", *words]))
    except SignalException as told:
        return signals.REQUEUE if told.sigval == signal.SIGTERM else OF_A_SIGNAL + told.sigval
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else OF_A_SIGNAL - status
    return 0


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
