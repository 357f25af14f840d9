"""A run's outcome where nothing was trained: the network as it is, and its books."""

from typing import Any

from layerprune.core.measure import count_macs, section_macs, section_params
from layerprune.core.methods.base import Context, Outcome, TrainingMethod
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.loop import Progress
from layerprune.suite.execute import Finished, Run, Start


def finished(
    run: Run,
    network: SectionedNetwork,
    spent: tuple[int, float],
    spent_before: tuple[int, float],
    details: dict[str, Any],
) -> Finished:
    """`spent`: multiply-adds and seconds of the run in all; `spent_before`: those of its parents among them."""
    progress = Progress(train_macs=spent[0], wall_seconds=spent[1], removed_step=[None] * len(network.sections))
    progress.rows.append(_row(run, network, progress))
    method = TrainingMethod(run.method_settings, network, context(run, network, 0))
    start = Start(network, method, run.settings.training, 0, progress, details=details)
    return Finished(network, Outcome(network.keep()), progress, start, spent_before, aims_to_prune=False)


def _row(run: Run, network: SectionedNetwork, progress: Progress) -> dict[str, float | int | None]:
    """The one line of curves.csv, with the columns of a training's."""
    validation = evaluate(network, run.data, run.data.validation, group=run.group)
    return {
        "epoch": 0,
        "step": 0,
        "lr": None,
        "train_loss": None,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "sections_alive": sum(network.keep()),
        "macs": count_macs(network, network.input_shape),
        "train_macs": progress.train_macs,
        "wall_seconds": progress.wall_seconds,
    }


def context(run: Run, network: SectionedNetwork, steps: int) -> Context:
    """What a training method may know of a training of so many steps."""
    training = run.settings.training
    return Context(
        examples=len(run.data.train),
        batch_size=training.batch_size,
        steps_per_epoch=-(-len(run.data.train) // training.batch_size),
        steps_total=steps,
        seed=run.settings.seed,
        device=run.device,
        section_macs=tuple(section_macs(network)),
        section_params=tuple(section_params(network)),
        group=run.group,
    )
