"""Latency of a pruned and folded network against the dense one, beside the ratio of their MACs."""

import copy

import torch

from bench.networks import Setup, made_up_data
from bench.timing import Comparison, compare
from layerprune.measure.counting import count_macs
from layerprune.models import surgery
from layerprune.models.sections import SectionedNetwork
from layerprune.runner import choose_device


def pruned_against_dense(rounds: int) -> list[Comparison]:
    """mlp-residual-20 without every other section, at batch 1 and 128."""
    device = choose_device("auto")
    dense = Setup("mlp-residual-20").run(made_up_data(256, device)).fresh_network().eval()
    pruned = copy.deepcopy(dense)
    surgery.remove(pruned, range(0, 20, 2))
    surgery.fold(pruned)
    share = count_macs(pruned, pruned.input_shape) / count_macs(dense, dense.input_shape)
    return [_compare(dense, pruned, batch, share, rounds, device) for batch in (1, 128)]


def _compare(
    dense: SectionedNetwork, pruned: SectionedNetwork, batch: int, share: float, rounds: int, device: torch.device
) -> Comparison:
    images = torch.randn(batch, 1, 28, 28, device=device)

    def forward(network: SectionedNetwork) -> None:
        with torch.inference_mode():
            network(images)

    name = f"inference, 10 of 20 sections / all, batch {batch}: mlp-residual-20"
    return compare(name, lambda: forward(pruned), lambda: forward(dense), rounds, 10, f"MACs: {share:.2f}")
