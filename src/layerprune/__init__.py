"""layerprune: concurrent training and layer pruning of deep networks, and its rivals."""

__version__ = "0.1.0"
