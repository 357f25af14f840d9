"""Records of a study's experiments, which are in none of its tables."""

import math
from collections.abc import Iterator

from layerprune.analysis.frames import WITH_RESULT, Study
from layerprune.suite import store
from layerprune.suite.record import Record

RANDOM_REMOVAL = "random-removal"
DEVIATIONS = 3
"""So many standard deviations above guessing a network's accuracy must lie to count as better than that."""


def planned(study: Study, name: str) -> list[str]:
    """Architectures on which an experiment is planned, in the order of the study."""
    return list(dict.fromkeys(key.arch for key in study.experiments if key.method == name))


def records_of(study: Study, name: str) -> Iterator[Record]:
    """The records that there are of an experiment with its default settings, if it came to an end."""
    for key in study.experiments:
        if key.method == name and key.variant == "default" and store.exists(key):
            found = store.find(key)
            if found.status in WITH_RESULT:
                yield found


def better_than_guessing(found: Record) -> float:
    """The accuracy above which a network does not merely guess between equally frequent classes."""
    chance, images = 1 / found.details["classes"], found.details["images"]
    return chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / images)
