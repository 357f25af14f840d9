"""Training steps: the trainer's own step on real batches of made-up images, so only what differs is compared."""

import importlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from bench.timing import Measurement, compare
from layerprune.core import surgery
from layerprune.core.data.batches import training_batches
from layerprune.core.data.dataset import DataSet, Split
from layerprune.core.measure import count_macs, section_macs
from layerprune.core.methods.base import Context
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import GatedSettings, ModelSettings, NoSettings, TrainingSettings
from layerprune.core.timing import CPU
from layerprune.core.training.loop import Job, Progress, Trainer
from layerprune.core.training.state import StateFile
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

SHAPE, CLASSES, BATCH = (1, 28, 28), 10, 128
CIFAR_SHAPE = (3, 32, 32)
IMAGENET_SHAPE = (3, 64, 64)
# A small rate: random labels teach nothing, and denormal or infinite weights would be timed.
TRAINING = TrainingSettings(lr=1e-4, batch_size=BATCH)
STEPS_TOTAL = 10**9
# Theta moves by next to nothing: every section stays alive, yet the whole of a gated step is done.
GATED = GatedSettings(nu=0.0, theta_lr=1e-12, warmup="0it", consolidate_at=1.0)
GATED_TARGETS = {"lenet-300-100": "", "lenet5": "<= 1.10", "mlp-residual-20": "<= 1.35"}
STEPS_A_ROUND = 3
"""Few: what another process does to one of the two then spoils one round of many, not the median."""


def shape_of(arch: str) -> tuple[int, int, int]:
    """The images that an architecture is measured on: CIFAR's shape, small ones of ImageNet, or MNIST's."""
    if arch.startswith("imagenet"):
        return IMAGENET_SHAPE
    return CIFAR_SHAPE if arch.startswith(("resnet", "vgg")) else SHAPE


def made_up_data(images: int, shape: tuple[int, int, int] = SHAPE) -> DataSet:
    """Random images; the splits share them."""
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *shape), generator=source, dtype=torch.uint8)
    split = Split(pixels, torch.randint(0, CLASSES, (images,), generator=source))
    mean, std = (0.13,) * shape[0], (0.31,) * shape[0]
    return DataSet("made up", "made up", CLASSES, split, split, split, mean, std, {})


def network_of(arch: str, width: int | None = None) -> SectionedNetwork:
    """A network laid out as in training, as published or of this width; `mlp-residual-0` has no section at all."""
    empty = arch == "mlp-residual-0"
    source, settings = torch.Generator().manual_seed(0), ModelSettings(width=width)
    network = build("mlp-residual-1" if empty else arch, shape_of(arch), CLASSES, source, settings)
    if empty:
        network.sections = nn.ModuleList()
    return network.to(memory_format=torch.channels_last)


def steps_of(
    network: SectionedNetwork,
    method: str,
    settings: object,
    training: TrainingSettings = TRAINING,
    steps: int = STEPS_A_ROUND,
    group: ProcessGroup = SINGLE_PROCESS,
    device: torch.device = CPU,
) -> Callable[[], None]:
    """A call that makes so many training steps, batches included."""
    source = endless(trainer_of(network, method, settings, training, group, device))

    def work() -> None:
        for _ in range(steps):
            next(source)

    return work


def trainer_of(
    network: SectionedNetwork,
    method: str,
    settings: object,
    training: TrainingSettings = TRAINING,
    group: ProcessGroup = SINGLE_PROCESS,
    device: torch.device = CPU,
) -> Trainer:
    """A trainer on made-up images, 32 batches an epoch, whose network is in training mode."""
    network, data = network.to(device), made_up_data(training.batch_size * 32, network.input_shape).to(device)
    batches = training_batches(data, training, 0, device, group)
    context = Context.of(network, len(data.train), training, STEPS_TOTAL, 0, device, group=group)
    trained = importlib.import_module(f"layerprune.core.methods.trained.{method}").Method(settings, network, context)
    job = Job(data, batches, training, training, STEPS_TOTAL, StateFile(None, "", 0), Progress(), group=group)
    network.train()
    return Trainer(network, trained, job)


def endless(trainer: Trainer) -> Iterator[torch.Tensor]:
    """Its steps, one after the other."""
    while True:
        trainer.method.start_epoch(trainer.progress.epoch)
        yield from trainer._steps_of_epoch()
        trainer.progress.epoch += 1


def gated_against_dense(arch: str, rounds: int) -> Measurement:
    """A gated step with every section alive over a dense step."""
    dense = steps_of(network_of(arch), "dense", NoSettings())
    gated = steps_of(network_of(arch), "gated", GATED)
    return compare(f"gated step / dense step, {arch}", dense, gated, rounds, GATED_TARGETS[arch])


def pruned_against_small(sections: int, alive: int, rounds: int) -> Measurement:
    """A step of a network that lost sections over one of a network built with as many as are left."""
    arch = f"mlp-residual-{sections}"
    pruned = network_of(arch)
    surgery.remove(pruned, range(alive, sections))
    small = steps_of(network_of(f"mlp-residual-{alive}"), "dense", NoSettings())
    large = steps_of(pruned, "dense", NoSettings())
    name = f"{arch} pruned to {alive} / built with {alive}, step"
    return compare(name, small, large, rounds, "<= 1.15")


def pruned_against_whole(sections: int, alive: int, rounds: int) -> Measurement:
    """A step with fewer sections alive over one with all, beside the ratio of MACs."""
    whole, pruned = (network_of(f"mlp-residual-{sections}") for _ in range(2))
    surgery.remove(pruned, range(alive, sections))
    share = _branch_share(whole, alive)
    all_alive = steps_of(whole, "dense", NoSettings())
    fewer = steps_of(pruned, "dense", NoSettings())
    name = f"mlp-residual-{sections} with {alive} alive / all alive, step"
    return compare(name, all_alive, fewer, rounds, note=f"MACs {share:.2f}")


def _branch_share(network: SectionedNetwork, alive: int) -> float:
    whole, branches = count_macs(network, SHAPE), section_macs(network)
    return (whole - sum(branches[alive:])) / whole


def measure(rounds: int) -> Iterator[Measurement]:
    """Gated steps, then steps against sections alive."""
    for arch in GATED_TARGETS:
        yield gated_against_dense(arch, rounds)
    for sections in (20, 40):
        for quarters in (0, 1, 2, 3, 4):
            yield pruned_against_small(sections, sections * quarters // 4, rounds)
    for quarters in (0, 1, 2, 3):
        yield pruned_against_whole(20, 20 * quarters // 4, rounds)
