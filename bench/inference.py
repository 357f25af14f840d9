"""Inference latency of a network that lost half of its sections against the whole one, beside the ratio of MACs."""

from collections.abc import Iterator

import torch

from bench.steps import SHAPE, network_of
from bench.timing import Measurement, compare
from layerprune.measure.counting import count_macs
from layerprune.models import surgery

ARCH, KEPT = "mlp-residual-20", 10
CALLS_A_ROUND = {1: 10, 128: 3}


def half_against_whole(batch: int, rounds: int) -> Measurement:
    """Latency at a batch size, pruned over whole."""
    whole, pruned = network_of(ARCH).eval(), network_of(ARCH).eval()
    surgery.remove(pruned, range(KEPT, len(pruned.sections)))
    surgery.fold(pruned)
    share = count_macs(pruned, SHAPE) / count_macs(whole, SHAPE)
    images, calls = torch.rand(batch, *SHAPE), CALLS_A_ROUND[batch]

    @torch.inference_mode()
    def infer(network: torch.nn.Module) -> None:
        for _ in range(calls):
            network(images)

    name = f"inference of half of {ARCH} / all of it, batch {batch}"
    return compare(name, lambda: infer(whole), lambda: infer(pruned), rounds, note=f"MACs {share:.2f}")


def measure(rounds: int) -> Iterator[Measurement]:
    """One image and a batch."""
    for batch in CALLS_A_ROUND:
        yield half_against_whole(batch, rounds)
