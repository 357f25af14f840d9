"""Wall time of a whole gated run, with its removals, against dense."""

import copy

from bench.networks import Setup, made_up_data, trainer_of
from bench.timing import Comparison, compare
from layerprune.data.dataset import DataSet
from layerprune.runner import choose_device

# A price high enough to remove most sections soon after the warm-up: made-up labels give no section a reason to stay.
PRUNING = {"nu": 0.01, "theta_lr": 1.0, "warmup": "1ep", "consolidate_at": 0.4}


def gated_against_dense(steps_per_epoch: int, rounds: int) -> list[Comparison]:
    """mlp-residual-20, ten epochs, evaluation included."""
    data = made_up_data(128 * steps_per_epoch, choose_device("auto"))
    name = "whole gated run, most sections removed early / dense run: mlp-residual-20"
    gated, dense = Setup("mlp-residual-20", "gated", PRUNING, epochs=10), Setup("mlp-residual-20", epochs=10)
    return [compare(name, lambda: _train(gated, data), lambda: _train(dense, data), rounds, warmup=1, target="below 1")]


def _train(setup: Setup, data: DataSet) -> None:
    trainer_of(copy.copy(setup), data).run()
