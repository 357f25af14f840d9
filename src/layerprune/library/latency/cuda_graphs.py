"""A forward pass recorded as a CUDA graph: one launch in place of one for each operation.

For single examples a GPU computes faster than the host launches, so an eager pass takes as long as its launches,
whatever its layers cost. A graph shows what the device takes.
"""

from typing import Any

import torch

from layerprune.core.timing import WARM_UP, Work


class Graphed:
    """A call that replays what `work` did on the device when it was recorded; `output` is where the result appears."""

    def __init__(self, work: Work) -> None:
        self._work = work  # its inputs and weights stay where the graph reads them
        aside, caller = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(caller)
        with torch.cuda.stream(aside):  # libraries choose their kernels, and allocate, before the recording
            for _ in range(WARM_UP):
                work()
        caller.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output: Any = work()

    def __call__(self) -> Any:
        self.graph.replay()
        return self.output
