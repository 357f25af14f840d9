"""Inference latency of networks that lost sections against the whole ones, beside the ratio of MACs."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from bench.steps import network_of
from bench.timing import Measurement, compare
from layerprune.core import surgery
from layerprune.core.measure import count_macs
from layerprune.core.networks.sections import SectionedNetwork

ARCH, KEPT = "mlp-residual-20", 10
CALLS_A_ROUND = {1: 10, 128: 3}
CONVOLUTIONAL = {"resnet-20": None, "vgg16": 16}
"""Architecture -> width; None as published."""
LOST = {"a third": 1 / 3, "two thirds": 2 / 3}


def half_against_whole(batch: int, rounds: int) -> Measurement:
    """Latency at a batch size, pruned over whole."""
    whole, pruned = network_of(ARCH).eval(), network_of(ARCH).eval()
    surgery.remove(pruned, range(KEPT, len(pruned.sections)))
    surgery.fold(pruned)
    calls = CALLS_A_ROUND[batch]
    name = f"inference of half of {ARCH} / all of it, batch {batch}"
    note = f"MACs {_share(pruned, whole):.2f}"
    return compare(name, calling(whole, batch, calls), calling(pruned, batch, calls), rounds, note=note)


def gain_from_removal(arch: str, width: int | None, lost: str, batch: int, rounds: int) -> Measurement:
    """What removal gains as a fraction of what the MACs promise: (whole / pruned latency) / (whole / pruned MACs)."""
    whole, pruned = network_of(arch, width).eval(), network_of(arch, width).eval()
    surgery.remove(pruned, evenly(len(pruned.sections), LOST[lost]))
    surgery.fold(pruned)
    share, calls = _share(pruned, whole), 1 if batch > 1 else CALLS_A_ROUND[1]
    name = f"speed-up / MACs saved, {arch} without {lost}, batch {batch}"
    speed_up = compare(name, calling(pruned, batch, calls), calling(whole, batch, calls), rounds, ">= 0.9")
    note = f"speed-up {speed_up.ratio:.2f}, MACs {share:.2f}" + (f", width {width}" if width else "")
    return replace(
        speed_up, ratio=speed_up.ratio * share, low=speed_up.low * share, high=speed_up.high * share, note=note
    )


def evenly(sections: int, share: float) -> list[int]:
    """A share of the sections, spread over the whole depth, each the last of its stretch."""
    count = round(sections * share)
    return [place for place in range(sections) if (place + 1) * count // sections > place * count // sections]


def calling(network: SectionedNetwork, batch: int, calls: int) -> Callable[[], None]:
    """A call that infers so many batches."""
    images = torch.rand(batch, *network.input_shape)

    @torch.inference_mode()
    def infer() -> None:
        for _ in range(calls):
            network(images)

    return infer


def _share(pruned: SectionedNetwork, whole: SectionedNetwork) -> float:
    return count_macs(pruned, pruned.input_shape) / count_macs(whole, whole.input_shape)


def measure(rounds: int) -> Iterator[Measurement]:
    """One image and a batch."""
    for batch in CALLS_A_ROUND:
        yield half_against_whole(batch, rounds)
    for arch, width in CONVOLUTIONAL.items():
        for lost in LOST:
            for batch in CALLS_A_ROUND:
                # A batch takes a tenth of a second: fewer rounds tell as much.
                yield gain_from_removal(arch, width, lost, batch, rounds if batch == 1 else -(-rounds // 5))
