"""The baseline: every section open, nothing removed."""

from layerprune.core.methods.base import TrainingMethod

VERSION = 1


class Method(TrainingMethod):
    """Plain training of the whole network."""
