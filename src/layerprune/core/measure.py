"""What is measured of a network: multiply-adds, parameters, depth, the cost of training, and that removal is exact.

MACs are the multiply-adds of convolutions and linear layers for one input. Biases, pooling and elementwise work are not
counted; the counts equal torch's FlopCounterMode / 2.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import CLOSED, Gates, Section, SectionedNetwork

_WEIGHT_LAYERS = (nn.Linear, nn.Conv2d)


def count_macs(module: nn.Module, shape: Sequence[int]) -> int:
    """MACs of one input of `shape` (without the batch) through a module."""
    return sum(layer_macs(module, shape).values())


def layer_macs(module: nn.Module, shape: Sequence[int]) -> dict[str, int]:
    """MACs of every convolution and linear layer by its name, for one input of `shape`."""
    counts: dict[str, int] = {}
    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, _WEIGHT_LAYERS):

            def hook(layer: nn.Module, inputs: tuple, output: Tensor, name: str = name) -> None:
                counts[name] = counts.get(name, 0) + output[0].numel() * layer.weight[0].numel()

            handles.append(layer.register_forward_hook(hook))
    try:
        _run(module, shape)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def output_shape(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape (without the batch) that a module makes of one input of `shape`."""
    return tuple(_run(module, shape).shape[1:])


def _run(module: nn.Module, shape: Sequence[int]) -> Tensor:
    reference = next(module.parameters(), None)
    with evaluating(module), torch.no_grad():
        return module(torch.zeros(1, *shape, device=reference.device if reference is not None else None))


def count_params(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def section_macs(network: SectionedNetwork) -> list[int]:
    """MACs of every removable section's branch; 0 where it is gone."""
    counts = layer_macs(network, network.input_shape)
    return [
        sum(macs for name, macs in counts.items() if name.startswith(f"chain.{place}.branch."))
        for place, section in enumerate(network.chain)
        if section.removable
    ]


def section_params(network: SectionedNetwork) -> list[int]:
    """Parameters of every removable section's branch; 0 where it is gone."""
    return [count_params(section.branch) if section.alive else 0 for section in network.sections]


def count_depth(network: SectionedNetwork) -> int:
    """Weight layers on the longest path from input to output."""
    return _chain(network.stem) + sum(map(_section_depth, network.chain)) + _chain(network.head)


def _section_depth(section: Section) -> int:
    return max(_chain(section.shortcut), _chain(section.branch) if section.alive else 0)


def _chain(module: nn.Module) -> int:
    return sum(isinstance(layer, _WEIGHT_LAYERS) for layer in module.modules())


class MacMeter:
    """Multiply-adds spent on training: forward x 3 for a step, x 1 for an extra forward pass; open sections only.

    Counts on the host from the network's structure; never looks at a tensor's values.
    """

    def __init__(self, network: SectionedNetwork, total: int = 0) -> None:
        self.network = network
        self.total = total
        self.recount()

    def recount(self) -> None:
        """Count the network again; to be called after every removal."""
        self.by_section = section_macs(self.network)
        self.whole = count_macs(self.network, self.network.input_shape)

    def forward_macs(self, gates: Gates = None) -> int:
        """MACs of one input through the sections that are alive and not CLOSED."""
        if not isinstance(gates, list):
            return self.whole
        return self.whole - sum(macs for macs, gate in zip(self.by_section, gates, strict=True) if gate is CLOSED)

    def add_step(self, examples: int, gates: Gates = None) -> None:
        """One forward and backward pass."""
        self.total += 3 * examples * self.forward_macs(gates)

    def add_forward(self, examples: int, gates: Gates = None) -> None:
        """One forward pass."""
        self.total += examples * self.forward_macs(gates)


@torch.no_grad()
def equivalence_gap(gated: SectionedNetwork, gates: Gates, smaller: SectionedNetwork, images: Tensor) -> float:
    """Largest difference between the logits of `gated` under `gates` and of `smaller`, on `images` [B, C, H, W].
    Relative to the largest logit if that exceeds 1, so that it can be compared with float32's resolution.
    """
    with evaluating(gated, smaller):
        reference = gated(images, gates)
        return float((reference - smaller(images)).abs().max() / reference.abs().max().clamp(min=1))


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode; afterwards every part is back in its own, which may differ from the whole's."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
