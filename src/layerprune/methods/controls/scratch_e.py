"""Scratch-E (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, for as many epochs as dense."""

from layerprune.config import ScratchSettings
from layerprune.methods.base import ControlPlan, MacsRatio


def plan(settings: ScratchSettings, matched: list[int] | None, macs_ratio: MacsRatio) -> ControlPlan:
    """Equal epochs."""
    return ControlPlan(matched, "fresh")
