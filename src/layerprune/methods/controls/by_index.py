"""Replays a keep list on the trained dense network, then fine-tunes: was it which sections, or when they went?

Without a list of its own it takes gated's of the same seed.
"""

from layerprune.config import ByIndexSettings
from layerprune.methods.base import ControlPlan, MacsRatio


def plan(settings: ByIndexSettings, matched: list[int] | None, macs_ratio: MacsRatio) -> ControlPlan:
    """The given list, or gated's (`matched`)."""
    return ControlPlan(list(settings.keep_list) if settings.keep_list is not None else matched, "dense")
