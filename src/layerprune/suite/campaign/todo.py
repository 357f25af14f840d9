"""What remains of a plan: runs without a current record, and before each the runs that it starts from."""

from collections.abc import Iterable
from functools import cache

from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, store
from layerprune.suite.config import Preset
from layerprune.system import paths
from layerprune.system.paths import RunKey


def to_do(preset: Preset, keys: Iterable[RunKey]) -> list[RunKey]:
    """Runs to make for these: those that are not done, in their order, each behind what it starts from."""
    found: dict[RunKey, None] = {}
    done = cache(lambda key: is_done(preset, key))

    def add(key: RunKey) -> None:
        if key in found:
            return
        for parent in config.prerequisites(preset, key):
            if not (done(parent) and offers_enough(preset, key, parent)):
                add(parent)
        found[key] = None

    for key in keys:
        if not done(key):
            add(key)
    return list(found)


def with_parents(preset: Preset, keys: Iterable[RunKey]) -> list[RunKey]:
    """These runs and whatever they start from."""
    found = dict.fromkeys(keys)
    for key in list(found):
        found |= dict.fromkeys(config.prerequisites(preset, key))
    return list(found)


def is_done(preset: Preset, key: RunKey) -> bool:
    """Whether a run's record is current, in its folder or in the store, with whole files; weights may be absent."""
    try:
        made = store.find(key)
        if made is None or not current.is_current(preset, made):
            return False
        here = paths.record(key).is_file()
        return not here or current.damage(key, made, weights=paths.weights(key).exists()) is None
    except LayerpruneError:
        return False


def offers_enough(preset: Preset, key: RunKey, parent: RunKey) -> bool:
    """Whether the weights of a parent are there, or not needed."""
    if parent not in config.weight_prerequisites(preset, key):
        return True
    try:
        return store.weights(parent) is not None
    except LayerpruneError:
        return False
