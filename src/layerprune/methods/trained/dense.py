"""The baseline: every section open, nothing removed."""

from layerprune.methods.base import TrainingMethod


class Method(TrainingMethod):
    """Plain training of the whole network."""
