"""The processes that share one run, one for each device, as torchrun starts them; or one alone.

Each takes every `size`-th example of every batch. What they know of the whole they sum; what they must agree on, such
as which sections go, they compare, and a difference ends the run. A process alone pays nothing for any of this.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as processes
from torch import Tensor

from layerprune.errors import LayerpruneError
from layerprune.system.processes import TorchrunPlace

PATIENCE = timedelta(minutes=10)
"""How long a process waits for one that no longer answers but is not dead; a death is noticed at once."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those of its run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all: writes files, reports."""
        return self.rank == 0

    def mine(self, count: int, first: int = 0) -> slice:
        """Which of the `count` examples from `first` on are this process's: every size-th, from its rank on."""
        return slice(first + self.rank, first + count, self.size)

    def share(self, count: int) -> int:
        """How many of a batch's `count` examples are this process's."""
        return len(range(count)[self.mine(count)])

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor, all of one type, by its sum over the processes. One message for all of them."""
        if self.size == 1:
            return
        packed = torch.cat([tensor.flatten() for tensor in tensors])
        with self.explaining():
            processes.all_reduce(packed)
        for tensor, part in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def average(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over the processes."""
        if self.size > 1:
            self.add_up(tensor)
            tensor.div_(self.size)

    def mean_of(self, losses: Tensor, examples: int) -> Tensor:
        """This process's losses [b] as a scalar whose mean over the processes is the mean over all `examples`.

        Gradients are averaged over the processes, so theirs is the whole batch's gradient.
        """
        return losses.mean() if self.size == 1 else losses.sum() * (self.size / examples)

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        if self.size == 1:
            return
        with self.explaining():
            for tensor in tensors:
                processes.broadcast(tensor, 0)

    def meet(self) -> None:
        """Wait until every process has come here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor([int(flag)], device=self.device)
        self.add_up(raised)
        return bool(raised)

    def agree(self, on: str, value: Any) -> None:
        """Compare plain data over the processes. Raises LayerpruneError where they differ."""
        if self.size == 1:
            return
        digest = hashlib.sha256(json.dumps(value).encode()).digest()
        own = torch.frombuffer(bytearray(digest), dtype=torch.uint8).to(self.device)
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        with self.explaining():
            processes.all_gather(everyone, own)
        odd = [rank for rank, other in enumerate(everyone) if not torch.equal(other, everyone[0])]
        if odd:
            raise LayerpruneError(
                f"the processes of this run disagree on {on}: rank {odd[0]} differs from rank 0; "
                f"rank {self.rank} has {json.dumps(value)}"
            )

    def everyones(self, value: Any) -> list[Any]:
        """The plain data that each process has, in the order of their ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self.explaining():
            processes.all_gather_object(found, value)
        return found

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn what a broken connection raises into one line; other errors pass."""
        try:
            yield
        except RuntimeError as error:
            if self.size > 1 and any(word in str(error).lower() for word in _WORDS_OF_DEATH):
                raise lost(self, error) from None
            raise


_WORDS_OF_DEATH = ("connection", "gloo", "nccl", "broken pipe", "timed out", "timeout", "peer")
SINGLE_PROCESS = ProcessGroup()


def lost(group: ProcessGroup, error: RuntimeError) -> LayerpruneError:
    """The error to raise when a message to the other processes failed."""
    reason = str(error).strip().partition("\n")[0]
    who = f"rank {group.rank} of {group.size}"
    return LayerpruneError(f"{who}: another process of this run has died or does not answer: {reason}")


@contextmanager
def joined(place: TorchrunPlace, device: torch.device) -> Iterator[ProcessGroup]:
    """This process joined to the others, as a context. Raises LayerpruneError if they cannot be reached."""
    group = ProcessGroup(place.rank, place.size, device)
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        processes.init_process_group(backend, rank=place.rank, world_size=place.size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise lost(group, RuntimeError(str(error))) from None
    try:
        yield group
    finally:
        processes.destroy_process_group()
