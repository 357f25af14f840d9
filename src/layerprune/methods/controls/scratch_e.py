"""Scratch-E (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, for as many epochs as dense."""

from layerprune.config import ScratchSettings
from layerprune.methods.base import ControlPlan, Question


def plan(settings: ScratchSettings, question: Question) -> ControlPlan:
    """Equal epochs."""
    return ControlPlan(question.matched, "fresh")
