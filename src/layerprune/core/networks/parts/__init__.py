"""Layers that some architectures share; an architecture imports the ones it needs."""
