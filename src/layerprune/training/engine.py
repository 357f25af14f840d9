"""How a training step computes the network: eagerly, the reference, or compiled.

Compiled steps fuse what lies between the convolutions, and on a GPU replay forward and backward pass as CUDA graphs.
They are captured anew whenever sections go. Not bit-equal to the eager ones: sums are taken in another order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from layerprune.models.sections import Gates, SectionedNetwork

Forward = Callable[[Tensor, Gates], Tensor]


def forward_of(network: SectionedNetwork, engine: str) -> Forward:
    """The network as a function of images and gates; `engine` is "eager" or "compiled"."""
    if engine == "eager":
        return network
    torch.compiler.reset()  # graphs of the network as it was would never be met again, and count against a limit
    on_gpu = next(network.parameters()).is_cuda
    return torch.compile(network, mode="reduce-overhead" if on_gpu else "default")
