"""Scratch-B (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, for dense's training MACs.

Epochs are multiplied by MACs of dense / MACs of the pruned network, without a cap.
"""

from layerprune.config import ScratchSettings
from layerprune.methods.base import ControlPlan, Question


def plan(settings: ScratchSettings, question: Question) -> ControlPlan:
    """Equal computation."""
    return ControlPlan(question.matched, "fresh", question.macs_ratio(question.matched))
