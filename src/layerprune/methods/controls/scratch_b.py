"""Scratch-B (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, for dense's training MACs.

Epochs are multiplied by MACs of dense / MACs of the pruned network, without a cap.
"""

from layerprune.config import ScratchSettings
from layerprune.methods.base import ControlPlan, MacsRatio


def plan(settings: ScratchSettings, matched: list[int] | None, macs_ratio: MacsRatio) -> ControlPlan:
    """Equal computation."""
    return ControlPlan(matched, "fresh", macs_ratio(matched))
