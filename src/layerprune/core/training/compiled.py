"""Sections by torch.compile, one by one: sections that are alike share one graph, and a removal compiles nothing.

A graph has a section's weights among its inputs. It is made where it is first needed, for a kind of section, the size
of the batch and the kind of gate, and serves all networks of this process. Computed eagerly is what would need graphs
of its own for little: a smaller batch (an epoch's last), a second forward pass without gradients, and sections without
their branch. On a GPU graphs are replayed as CUDA graphs (mode="reduce-overhead").
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._functorch.partitioners import default_partition
from torch._inductor import config
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch._inductor.custom_graph_pass import CustomPartitionerFn

from layerprune.core.networks.sections import CLOSED, Gate, Section, SectionedNetwork

CAN_COMPILE = {"cpp.vec_isa_ok": True}
"""What compiles torch's headers knows AVX2 and AVX-512. Inductor would see for itself, by programs that it compiles and
runs in processes of their own: a third of the time that a training takes to start. It still does so for rarer sets."""


class CompiledSections:
    """Computes a network's sections, of `batch` examples by graphs."""

    def __init__(self, network: SectionedNetwork, batch: int) -> None:
        self._batch = batch
        self._kinds = {section: repr(section) for section in network.chain}
        self._on_gpu = next(network.parameters()).is_cuda

    def __call__(self, section: Section, x: Tensor, gate: Gate) -> Tensor:
        """What `section(x, gate)` gives."""
        if gate is CLOSED or not (section.alive and len(x) == self._batch and torch.is_grad_enabled()):
            return section(x, gate)
        if callable(gate):  # it may do anything: only what it looks at is compiled
            return section.join(section.shortcut(x), self._graph(section, "branch", x.shape)(section.branch, x), gate)
        return self._graph(section, None if gate is None else gate.shape, x.shape)(section, x, gate)

    def _graph(self, section: Section, *more: Hashable) -> Callable[..., Tensor]:
        return _graph(self._on_gpu, self._kinds[section], *more)


@cache
def _graph(on_gpu: bool, *kind: Hashable) -> Callable[..., Tensor]:
    """The compiled call of all modules of a kind."""
    # torch.compile keeps graphs with a function's code, of which it allows eight: each kind has code of its own.
    function = FunctionType(_call.__code__.replace(), globals())
    return torch.compile(function, dynamic=False, **_how(on_gpu))


def check(device: torch.device) -> None:
    """Compile a sum, and compute it. Raises RuntimeError where that does not work."""
    how = _how(on_gpu=False) if device.type == "cpu" else {}
    torch.compile(lambda x: x + 1, **how)(torch.ones(2, device=device))


def _how(on_gpu: bool) -> dict[str, Any]:
    """Options of torch.compile.

    Inductor stores graphs on disk under their settings, among which the width of vectors is only if it is named: a
    process restricted to AVX2 was given loops over the 16 numbers of AVX-512, and died of it.
    """
    if on_gpu:
        return {"mode": "reduce-overhead"}
    with config.patch(CAN_COMPILE):
        width = pick_vec_isa().bit_width()
    return {"options": {"custom_partitioner_fn": _KeepsWhatAutogradKeeps(), "cpp.simdlen": width, **CAN_COMPILE}}


def _call(module: nn.Module, *inputs: Any) -> Tensor:
    return module(*inputs)


class _KeepsWhatAutogradKeeps(CustomPartitionerFn):
    """Stores for a graph's backward pass what autograd would.

    By default, Inductor stores as few bytes as possible: of a section's last ReLU only where it was positive, a byte a
    number. On CPUs it is slow with such bytes: a step of ResNet-20 in bf16 takes 1.7 times as long.
    """

    def __call__(
        self, gm: fx.GraphModule, joint_inputs: Sequence[object], **how: Any
    ) -> tuple[fx.GraphModule, fx.GraphModule]:
        how.pop("compiler", None)
        return default_partition(gm, joint_inputs, **how)

    def uuid(self) -> str:
        return "layerprune: what autograd keeps"
