"""Which GPU of this machine a process computes on: each is lent to `runs_per_gpu` processes at a time.

Snakemake counts GPUs but hands out no numbers. Here a lock file stands for each place on each GPU, in the machine's
folder for temporary files, so that several studies on one machine see each other's. The system frees a lock with its
process, however that dies: there is nothing to clear up.
"""

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import filelock
import torch

from layerprune.errors import LayerpruneError

SECONDS_BETWEEN_TRIES = 1.0

Held = AbstractContextManager[object]
"""A lock that is held, until this context ends."""


def gpus() -> list[str]:
    """A lasting name of each GPU that this process sees, in CUDA's order.

    Not its number: where CUDA_VISIBLE_DEVICES or a cluster's cgroup hides the others, every process's first is cuda:0.
    """
    count = torch.cuda.device_count()
    return [str(getattr(torch.cuda.get_device_properties(index), "uuid", index)) for index in range(count)]


def choose_device(name: str) -> torch.device:
    """A torch device; `auto` means a GPU if there is one. Raises LayerpruneError for one that is absent or unknown."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LayerpruneError(f"device: '{name}' is not a device (auto, cpu, cuda, cuda:N)") from None
    if device.type not in ("cpu", "cuda"):
        raise LayerpruneError(f"device: '{name}' is not supported (auto, cpu, cuda, cuda:N)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LayerpruneError(
            f"device: '{name}' is not there ({torch.cuda.device_count()} GPUs found); use cpu or auto"
        )
    return device


def exact_float32() -> None:
    """Make GPUs compute float32 as float32, in this process.

    By default torch lets convolutions round their inputs to TF32, which has ten bits: the logits of a network and of
    the same network without a section whose gate is 0 then differ in the third digit, and so would scores.
    Under bf16 (training.precision) nothing changes: convolutions and products are in bfloat16.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Within this context cuDNN tries its kernels on each new kind of convolution (shapes, layout, number format), some
    milliseconds each, and from then on this process uses the fastest, outside as well; of a kind met before it uses
    the kernel that it guessed then.

    No other thread may be recording a graph, and what else computes on the device would be timed along. Which kernel is
    the fastest may differ from process to process, and with it the last digits of what a GPU computes.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Within a thread that computes beside others: the device, and on a GPU a stream that no other thread uses."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield


class Pace:
    """Holds a thread back that is more than `ahead` pieces of work ahead of a GPU's present stream; no CPU is."""

    def __init__(self, ahead: int, device: torch.device) -> None:
        self._ahead = ahead
        self._begun: deque[torch.cuda.Event] | None = deque() if device.type == "cuda" else None

    def keep(self) -> None:
        """To be called after each piece of work was begun: wait for the one `ahead` before it, asleep."""
        if self._begun is None:
            return
        event = torch.cuda.Event(blocking=True)
        event.record()
        self._begun.append(event)
        if len(self._begun) > self._ahead:
            self._begun.popleft().synchronize()


@contextmanager
def borrowed(device: torch.device, runs_per_gpu: int, say: Callable[[str], None]) -> Iterator[torch.device]:
    """The device, this process's for a while; a CUDA device without a number becomes the first GPU with a free place.

    Waits while every place is taken, and says so once.
    """
    if device.type != "cuda":
        yield device
        return
    names = gpus()
    wanted = range(len(names)) if device.index is None else [device.index]
    index, held = _waited_for(names, wanted, range(runs_per_gpu), say)
    with held:
        yield torch.device("cuda", index)


@contextmanager
def whole_machine(device: torch.device, runs_per_gpu: int, say: Callable[[str], None]) -> Iterator[None]:
    """Every place on every GPU, for measuring without neighbours; nothing for a device that is no GPU."""
    with ExitStack() as held:
        if device.type == "cuda":
            names = gpus()
            for index in range(len(names)):  # in this order everywhere: two who wait for all never wait for each other
                for place in range(runs_per_gpu):
                    held.enter_context(_waited_for(names, [index], [place], say)[1])
        yield


def _waited_for(
    names: Sequence[str], wanted: Sequence[int], places: Sequence[int], say: Callable[[str], None]
) -> tuple[int, Held]:
    """A GPU's index and the lock of a place on it, which is now held."""
    told = False
    while (found := _free_place(names, wanted, places)) is None:
        if not told:
            which = f"GPU {wanted[0]} is" if len(wanted) == 1 else f"all {len(wanted)} GPUs are"
            say(f"{which} taken by other runs ({len(places)} at a time); waiting")
        told = True
        time.sleep(SECONDS_BETWEEN_TRIES)
    return found


def _free_place(names: Sequence[str], wanted: Sequence[int], places: Sequence[int]) -> tuple[int, Held] | None:
    """The same, or None where every place is taken. The first place on every GPU comes before the second on any."""
    for place in places:
        for index in wanted:
            try:
                return index, filelock.FileLock(_folder() / f"{names[index]}.{place}.lock", timeout=0).acquire()
            except filelock.Timeout:
                continue
    return None


def _folder() -> Path:
    """A folder of the user's own on this machine; locks of several machines must not meet on a shared disk."""
    folder = Path(tempfile.gettempdir()) / f"layerprune-gpus-{os.getuid()}"
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise LayerpruneError(f"{folder}: cannot write: {error.strerror}") from None
    return folder
