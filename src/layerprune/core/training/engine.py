"""How a training step computes the network: eagerly, the reference, or compiled; by one process or by several; in what
number format.

Compiled steps fuse what lies between the convolutions of a section. Not bit-equal to the eager ones: sums are taken in
another order.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

Forward = Callable[[Tensor, Gates], Tensor]


def forward_of(
    network: SectionedNetwork,
    engine: str,
    batch: int,
    group: ProcessGroup = SINGLE_PROCESS,
    skips_sections: bool = False,
) -> Forward:
    """The network as a function of images and gates; `engine` is that of the training's settings.

    `batch` is how many examples of a full batch this process has. With several processes gradients become their
    means. `skips_sections`: some gates are CLOSED, the same ones in every process, and those sections have no
    gradient; to find them takes time.
    """
    function: Forward = network
    if group.size > 1:
        with group.explaining():
            function = DistributedDataParallel(network, find_unused_parameters=skips_sections)
    if engine != "compiled":  # steps that are recorded whole are recorded as they are
        return function
    from layerprune.core.training.compiled import CompiledSections  # here, as it takes a second or two

    return partial(function, compute=CompiledSections(network, batch))


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """bf16: convolutions and products in bfloat16, sums and losses in float32; fp32: nothing changes.

    Casts are not kept: each weight is used once, and what is kept all threads of the process share.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if precision == "bf16" else nullcontext()
