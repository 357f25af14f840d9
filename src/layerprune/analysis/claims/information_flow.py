"""C2: whether anything gets past sections that are gone, from the experiment random-removal."""

from collections.abc import Callable

from layerprune.analysis import experiments
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.experiments import RANDOM_REMOVAL, better_than_guessing
from layerprune.analysis.frames import Study
from layerprune.suite.record import Record


def working_networks(study: Study) -> list[Sample]:
    """Share of a seed's random keep lists whose network, not trained any further, does better than guessing."""
    return _samples(study, _working)


def largest_gap(study: Study) -> list[Sample]:
    """Largest equivalence gap, over a seed's keep lists, between gates at 0 and sections that are gone."""
    return _samples(study, lambda found: max(found.details["gaps"]))


def _working(found: Record) -> float:
    accuracies = found.details["accuracies"]
    return sum(accuracy > better_than_guessing(found) for accuracy in accuracies) / len(accuracies)


def _samples(study: Study, number: Callable[[Record], float]) -> list[Sample]:
    runs = list(experiments.records_of(study, RANDOM_REMOVAL))
    return [
        Sample(arch, tuple(number(run) for run in runs if run.arch == arch))
        for arch in experiments.planned(study, RANDOM_REMOVAL)
    ]
