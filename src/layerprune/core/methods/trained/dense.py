"""The baseline: every section open, nothing removed."""

from collections.abc import Hashable

from layerprune.core.methods.base import TrainingMethod

VERSION = 1


class Method(TrainingMethod):
    """Plain training of the whole network."""

    def phase(self, step: int) -> Hashable:
        return ()
