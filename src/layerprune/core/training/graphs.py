"""Whole training steps recorded as CUDA graphs: batch, gates, forward and backward pass, optimizer, method's update.

An eager step of a ResNet launches hundreds of small operations and waits for the host to launch them; a graph is one
launch. A graph repeats fixed operations on fixed addresses. So what changes from step to step is written there before
(the place in the epoch, the learning rate, what the method's `prepare` tells), gates are drawn by a generator that the
graph knows, and each *phase* of the method, size of the batch and set of sections has a graph of its own. On a CPU
there are no graphs: the recorded step is computed again, with the step number it was recorded with, so tests compare
it with eager steps bit for bit.

The host waits for the device at a method's checks and at an epoch's end, never within a step. Outside the graph a step
only fills a few scalars and adds up the loss. Inside, weights are cast to bf16 all at once (`cast_weights`). How often
batch normalisation was updated is counted on the host.

Threads may record and replay side by side, each in a stream of its own (`system.devices.own_stream`): a graph is
recorded in the stream that it is replayed in, since products of matrices have their scratch memory by stream. The host
is never more than a few replays ahead of the device. Beside seven threads that were, recording a step of ResNet-56 took
an H200 ten to forty seconds, as if a driver with a full queue held up all threads' launches; now it takes 0.2.
"""

import gc
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerprune.core.data.batches import TrainingBatches
from layerprune.core.networks.sections import Gates
from layerprune.system.devices import Pace

if TYPE_CHECKING:
    from layerprune.core.training.loop import Trainer

Computed = tuple[Tensor, Gates]
WARM_UP, WARM_UP_AGAIN = 3, 1
"""Steps before a trainer's first recording, and before each later one, in which libraries choose kernels and allocate
memory; their effects are undone."""
AHEAD = 2
"""Replays that the device may still have to do."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while a graph is recorded or dropped: a process may record one at a time, and all share a list of graphs."""


class RecordedSteps:
    """A trainer's steps, one record a phase, batch size and set of sections."""

    def __init__(self, trainer: "Trainer", batches: TrainingBatches) -> None:
        self.trainer = trainer
        self.batches = batches
        self.place = torch.zeros((), dtype=torch.int64, device=trainer.job.data.train.device)
        """Step within the epoch."""
        self._records: dict[Hashable, Callable[[], Computed]] = {}
        self._pool: Any = None
        self._warm_up = WARM_UP
        self._pace = Pace(AHEAD, self.place.device)
        self._not_counted = 0
        """Steps since batch normalisation was last told of its updates."""

    def start_epoch(self, number: int) -> None:
        """Put the epoch's order where the records read it."""
        self.batches.start_recordable_epoch(number)

    def forget(self) -> None:
        """Drop all records, before what they read goes: sections, their gradients and momentum."""
        self.settle()
        if self._records and self.place.is_cuda:
            torch.cuda.current_stream().synchronize()  # no graph goes while the device works on it
        with _ONE_AT_A_TIME:
            self._records.clear()
        self._pool = None

    def settle(self) -> None:
        """Count the updates of batch normalisation; to be called before the network's state is read."""
        counters = [layer.num_batches_tracked for layer in _counting(self.trainer.network)]
        if counters and self._not_counted:
            torch._foreach_add_(counters, self._not_counted)
        self._not_counted = 0

    def step(self, number: int, examples: int) -> Computed:
        """Compute step `number` of the training, with a batch of so many examples."""
        self.place.fill_(number % self.batches.steps_per_epoch)
        phase = self.trainer.method.phase(number)
        if phase is None:
            return self._compute(number, examples)
        key = phase, examples
        if key not in self._records:
            self._records[key] = self._record(number, examples)
        self._not_counted += 1
        computed = self._records[key]()
        self._pace.keep()
        return computed

    def _compute(self, number: int, examples: int) -> Computed:
        images, labels = self.batches.recordable(self.place, examples)
        return self.trainer.compute(images, labels, number, examples)

    def _record(self, number: int, examples: int) -> Callable[[], Computed]:
        def compute() -> Computed:
            with _uncounted(self.trainer.network):
                return self._compute(number, examples)

        if not self.place.is_cuda:
            return compute
        if not self._records:  # memory whose last graph has gone cannot take another
            self._pool = torch.cuda.graph_pool_handle()
        noise, warm_up = self.trainer.method.noise, self._warm_up
        self._warm_up = WARM_UP_AGAIN
        return _captured(compute, list(self._changing()), [] if noise is None else [noise], self._pool, warm_up)

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


def _counting(network: nn.Module) -> list[nn.Module]:
    """The layers of batch normalisation, which count their updates in an operation each."""
    return [layer for layer in network.modules() if getattr(layer, "num_batches_tracked", None) is not None]


@contextmanager
def _uncounted(network: nn.Module) -> Iterator[None]:
    """While this lasts, batch normalisation counts nothing."""
    counters = [(layer, layer.num_batches_tracked) for layer in _counting(network)]
    for layer, _ in counters:
        layer.num_batches_tracked = None
    try:
        yield
    finally:
        for layer, counter in counters:
            layer.num_batches_tracked = counter


def _captured(
    compute: Callable[[], Computed], changing: list[Tensor], generators: list[torch.Generator], pool: Any, warm_up: int
) -> Callable[[], Computed]:
    """`compute` as a CUDA graph. Recording it changes none of the tensors `changing`, nor the generators' states.

    Graphs of one `pool` share memory. What a graph computes is read before another of them is replayed.
    """
    tensors = [(each, each.detach().clone()) for each in changing]
    states = [(each, each.get_state()) for each in generators]
    graph, caller = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    stream = torch.cuda.Stream() if caller == torch.cuda.default_stream() else caller  # the default one cannot record
    stream.wait_stream(caller)
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            compute()
        with _ONE_AT_A_TIME:
            for each in generators:
                graph.register_generator_state(each)
            computed = _recorded(graph, compute, pool)
    caller.wait_stream(stream)
    with torch.no_grad():
        for each, before in tensors:
            each.copy_(before)
    for each, state in states:
        each.set_state(state)

    def replay() -> Computed:
        graph.replay()
        return computed

    return replay


def _recorded(graph: torch.cuda.CUDAGraph, compute: Callable[[], Computed], pool: Any) -> Computed:
    """Record one call in the present stream.

    Not torch.cuda.graph: that waits for the whole device and gives its memory back, which stops the other lanes.
    """
    gc.disable()  # what it would free in this thread, the recording would not survive
    try:
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            return compute()
        finally:
            graph.capture_end()
    finally:
        gc.enable()
