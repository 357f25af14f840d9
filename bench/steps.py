"""What a training step costs: gated against dense, and a pruned network against one built small."""

from collections.abc import Callable

import torch

from bench.networks import Setup, made_up_data, trainer_of
from bench.timing import Comparison, compare
from layerprune.data.dataset import DataSet
from layerprune.models import surgery
from layerprune.models.archs import mlp_residual
from layerprune.models.build import initialise
from layerprune.models.sections import SectionedNetwork
from layerprune.runner import choose_device
from layerprune.seeding import generator
from layerprune.training.loop import Trainer

ALL_ALIVE = {"nu": 1e-9, "theta_lr": 1e-9, "theta0": 1.0, "warmup": "0ep", "consolidate_at": 1.0}
TARGETS = {"lenet5": "at most 1.10", "mlp-residual-20": "at most 1.35", "lenet-300-100": ""}


def stepper(trainer: Trainer) -> Callable[[], object]:
    """A function that makes one training step after another: batch preparation, forward, backward, updates."""

    def forever() -> object:
        epoch = 0
        while True:
            trainer.method.start_epoch(epoch)
            for images, labels in trainer.job.batches.epoch(epoch):
                yield trainer._step(images, labels)
            epoch += 1

    trainer.network.train()
    steps = forever()
    return lambda: next(steps)


def gated_against_dense(rounds: int) -> list[Comparison]:
    """A gated step with every section alive, against a dense step."""
    data = made_up_data(128 * 64, choose_device("auto"))
    return [_gated(arch, data, max(5, rounds // 4 if arch == "lenet5" else rounds)) for arch in TARGETS]


def _gated(arch: str, data: DataSet, rounds: int) -> Comparison:
    gated = stepper(trainer_of(Setup(arch, "gated", ALL_ALIVE), data))
    dense = stepper(trainer_of(Setup(arch), data))
    return compare(f"gated step, all sections alive / dense step: {arch}", gated, dense, rounds, target=TARGETS[arch])


def alive_against_built_small(rounds: int) -> list[Comparison]:
    """A step with some sections removed while training, against a network built with only that many."""
    data = made_up_data(128 * 64, choose_device("auto"))
    return [_pruned(total, total * share // 4, data, rounds) for total in (20, 40) for share in (0, 1, 2, 3)]


def _pruned(total: int, alive: int, data: DataSet, rounds: int) -> Comparison:
    pruned = trainer_of(Setup(f"mlp-residual-{total}"), data)
    surgery.remove(pruned.network, range(alive, total), pruned.optimizer)
    small = trainer_of(Setup(f"mlp-residual-{total}"), data, _built_small(data, alive))
    name = f"step with {alive} of {total} sections alive / built with {alive}: mlp-residual"
    return compare(name, stepper(pruned), stepper(small), rounds, target="within 0.15 of 1")


def _built_small(data: DataSet, sections: int) -> SectionedNetwork:
    """A residual MLP with so many sections; with none of them the architecture's slug has no name for it."""
    network = mlp_residual.build(f"mlp-residual-{max(sections, 1)}", data.shape, data.classes)
    initialise(network, generator("initialisation", 0))
    if sections == 0:
        network.sections = torch.nn.ModuleList()
    return network


def steps_by_sections(rounds: int) -> list[Comparison]:
    """A step with some sections alive, against the whole network's step: it should fall in proportion."""
    data = made_up_data(128 * 64, choose_device("auto"))
    whole = stepper(trainer_of(Setup("mlp-residual-20"), data))
    found = []
    for alive in (0, 5, 10, 15):
        pruned = trainer_of(Setup("mlp-residual-20"), data)
        surgery.remove(pruned.network, range(alive, 20), pruned.optimizer)
        share = pruned.meter.forward_macs() / trainer_of(Setup("mlp-residual-20"), data).meter.forward_macs()
        name = f"step with {alive} of 20 sections alive / with all: mlp-residual-20"
        found.append(compare(name, stepper(pruned), whole, rounds, target=f"MACs: {share:.2f}"))
    return found
