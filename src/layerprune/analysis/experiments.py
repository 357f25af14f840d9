"""Records of a study's experiments, which are in none of its tables."""

from collections.abc import Iterator

from layerprune.analysis.frames import WITH_RESULT, Study
from layerprune.suite import store
from layerprune.suite.record import Record


def planned(study: Study, name: str) -> list[str]:
    """Architectures on which an experiment is planned, in the order of the study."""
    return list(dict.fromkeys(key.arch for key in study.experiments if key.method == name))


def made(study: Study, name: str) -> Iterator[Record]:
    """The records that there are of an experiment with its default settings, if it came to an end."""
    for key in study.experiments:
        if key.method == name and key.variant == "default" and store.exists(key):
            found = store.find(key)
            if found.status in WITH_RESULT:
                yield found
