"""Whole training steps recorded as CUDA graphs: batch, gates, forward and backward pass, optimizer, method's update.

An eager step of a ResNet launches hundreds of small operations and waits for the host to launch them; a graph is one
launch. A graph repeats fixed operations on fixed addresses. So what changes from step to step is written there before
(the place in the epoch, the learning rate, what the method's `prepare` tells), gates are drawn by a generator that the
graph knows, and each *phase* of the method, size of the batch and set of sections has a graph of its own. On a CPU
there are no graphs: the recorded step is computed again, with the step number it was recorded with, so tests compare
it with eager steps bit for bit.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layerprune.core.data.batches import TrainingBatches
from layerprune.core.networks.sections import Gates

if TYPE_CHECKING:
    from layerprune.core.training.loop import Trainer

Computed = tuple[Tensor, Gates]
WARM_UP = 3
"""Steps before a recording, whose effects are undone: libraries choose their kernels and allocate in them."""


class RecordedSteps:
    """A trainer's steps, one record a phase, batch size and set of sections."""

    def __init__(self, trainer: "Trainer", batches: TrainingBatches) -> None:
        self.trainer = trainer
        self.batches = batches
        self.place = torch.zeros((), dtype=torch.int64, device=trainer.job.data.train.device)
        """Step within the epoch."""
        self._records: dict[Hashable, Callable[[], Computed]] = {}

    def start_epoch(self, number: int) -> None:
        """Put the epoch's order where the records read it."""
        self.batches.start_recordable_epoch(number)

    def forget(self) -> None:
        """Drop all records, before what they read goes: sections, their gradients and momentum."""
        self._records.clear()

    def step(self, number: int, examples: int) -> Computed:
        """Compute step `number` of the training, with a batch of so many examples."""
        self.place.fill_(number % self.batches.steps_per_epoch)
        phase = self.trainer.method.phase(number)
        if phase is None:
            return self._compute(number, examples)
        key = phase, examples
        if key not in self._records:
            self._records[key] = self._record(number, examples)
        return self._records[key]()

    def _compute(self, number: int, examples: int) -> Computed:
        images, labels = self.batches.recordable(self.place, examples)
        return self.trainer.compute(images, labels, number, examples)

    def _record(self, number: int, examples: int) -> Callable[[], Computed]:
        def compute() -> Computed:
            return self._compute(number, examples)

        if not self.place.is_cuda:
            return compute
        noise = self.trainer.method.noise
        return _captured(compute, list(self._changing()), [] if noise is None else [noise])

    def _changing(self) -> Iterator[Tensor]:
        """Whatever a step changes."""
        trainer = self.trainer
        yield from trainer.network.state_dict(keep_vars=True).values()
        yield from _tensors(trainer.method.state())
        for state in trainer.optimizer.state.values():
            yield from _tensors(state)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _captured(
    compute: Callable[[], Computed], changing: list[Tensor], generators: list[torch.Generator]
) -> Callable[[], Computed]:
    """`compute` as a CUDA graph. Recording it changes none of the tensors `changing`, nor the generators' states."""
    tensors = [(each, each.detach().clone()) for each in changing]
    states = [(each, each.get_state()) for each in generators]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            compute()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    for each in generators:
        graph.register_generator_state(each)
    with torch.cuda.graph(graph):
        computed = compute()
    with torch.no_grad():
        for each, before in tensors:
            each.copy_(before)
    for each, state in states:
        each.set_state(state)

    def replay() -> Computed:
        graph.replay()
        return computed

    return replay
