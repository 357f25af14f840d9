"""Scratch-B (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, for dense's training MACs.

Epochs are multiplied by MACs of dense / MACs of the pruned network, without a cap.
"""

from layerprune.core.methods.base import ControlPlan, Question
from layerprune.core.settings import ScratchSettings

VERSION = 1


def plan(settings: ScratchSettings, question: Question) -> ControlPlan:
    """Equal computation."""
    return ControlPlan(question.matched, "fresh", question.macs_ratio(question.matched))
