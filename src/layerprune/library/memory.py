"""Peak memory of a forward pass: weights, buffers, inputs, and the tensors in between.

The model runs once, in evaluation and without gradients. The meter sees each operation end and each tensor's memory
being freed, so it knows the live bytes after every operation; the largest sum is the peak. Memory that several tensors
share counts once. Workspaces within an operation and the allocator's reserve do not count, so the number is the same on
every device.
"""

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from layerprune.core.measure import evaluating
from layerprune.core.methods.parts.budget import Budget
from layerprune.core.methods.parts.section_latency import LEAST_SHARE
from layerprune.library import examples
from layerprune.library.recording import tensors_of, undisturbed


def peak_memory(model: nn.Module, example: Any) -> int:
    """Peak bytes of a forward pass of the example; the model does not change."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    batch = pytree.tree_map(_alone, examples.moved(example, device))
    with undisturbed(model), evaluating(model), torch.no_grad():
        meter = _Meter([*model.parameters(), *model.buffers(), *examples.tensors(batch)])
        with meter:
            examples.call(model, batch)
    return meter.peak


def _alone(each: Any) -> Any:
    """Of a tensor a copy, as a slice would hold all of what it is a slice of."""
    return each.clone() if isinstance(each, Tensor) else each


class _Meter(TorchDispatchMode):
    """Adds up the bytes of all memory that tensors hold."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}
        self._take_in(held)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self._take_in(tensors_of(result))
        return result

    def _take_in(self, tensors: Iterable[Tensor]) -> None:
        there = (each for each in tensors if each.layout is torch.strided and not each.is_meta)  # meta: a mere shape
        for storage in (each.untyped_storage() for each in there):
            key, size = storage._cdata, storage.nbytes()
            if key not in self._alive:
                self._alive[key] = weakref.ref(storage, lambda _, key=key, size=size: self._give_back(key, size))
                self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _give_back(self, key: int, size: int) -> None:
        del self._alive[key]
        self.bytes -= size


# --- of sections ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SectionMemory:
    """Peaks in bytes of the whole model and of the model without removable sections, and each section's share of the
    difference."""

    whole: int
    none: int
    sections: tuple[float, ...]


def section_memory(alive: Sequence[bool], peak_without: Callable[[Collection[int]], int]) -> SectionMemory:
    """Shares are by what each section adds to the peak alone: its weights, and its largest tensors.

    Where sections have left the model, any: the state that follows holds them.
    """
    everything, count = frozenset(range(len(alive))), len(alive)
    if not all(alive):
        return SectionMemory(1, 0, (1 / count,) * count)
    whole, none = peak_without(frozenset()), peak_without(everything)
    raw = [max(0, peak_without(everything - {place}) - none) for place in range(count)]
    # What is never at the peak would be free otherwise.
    least = LEAST_SHARE * (sum(raw) / count or 1.0)
    weights = [max(each, least) for each in raw]
    return SectionMemory(whole, none, tuple(max(0, whole - none) * each / sum(weights) for each in weights))


@dataclass(frozen=True)
class MemoryBudget:
    """A limit on the peak. The price follows shares, which add up; who goes is decided by peaks, which do not.

    Unlike other budgets this one is never exceeded: a device has the memory or it does not.
    """

    allowed: float
    memory: SectionMemory
    peak_without: Callable[[Collection[int]], int]
    _known: dict[frozenset[int], int] = field(default_factory=dict)

    @property
    def costs(self) -> tuple[float, ...]:
        return self.memory.sections

    def factor(self, theta: Tensor) -> float:
        """By what nu is multiplied at a check."""
        return Budget(max(0.0, self.allowed - self.memory.none), self.costs).factor(theta)

    def may_go(self, candidates: Collection[int], alive: Collection[int]) -> list[int]:
        """Of these sections the first ones, until the rest fits."""
        gone = {place for place, stays in enumerate(alive) if not stays}
        leaving: list[int] = []
        for place in candidates:
            if place not in gone and not self._fits(gone):
                gone.add(place)
                leaving.append(place)
        return leaving

    def rounded(self, theta: Tensor, worth: Tensor, alive: Collection[int]) -> Tensor:
        """1 for the sections to keep, highest theta first and of equals what is worth most, as long as all fit."""
        there = [place for place, stays in enumerate(alive) if stays]
        ranked = sorted(there, key=lambda place: (-float(theta[place]), -float(worth[place])))
        closed = set(range(len(theta)))
        for place in ranked:
            if self._fits(closed - {place}):
                closed.remove(place)
        return torch.tensor([float(place not in closed) for place in range(len(theta))]).to(theta)

    def _fits(self, closed: Iterable[int]) -> bool:
        key = frozenset(closed)
        if key not in self._known:
            self._known[key] = self.peak_without(key)
        return self._known[key] <= self.allowed
