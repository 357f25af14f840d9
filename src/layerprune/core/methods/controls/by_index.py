"""Replays a keep list on the trained dense network, then fine-tunes: was it which sections, or when they went?

Without a list of its own it takes gated's of the same seed.
"""

from layerprune.core.methods.base import ControlPlan, Question
from layerprune.core.settings import ByIndexSettings

VERSION = 1


def plan(settings: ByIndexSettings, question: Question) -> ControlPlan:
    """The given list, or gated's of the same seed."""
    return ControlPlan(list(settings.keep_list) if settings.keep_list is not None else question.matched, "dense")
