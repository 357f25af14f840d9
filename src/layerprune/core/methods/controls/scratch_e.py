"""Scratch-E (Liu et al., ICLR 2019): gated's architecture from a fresh initialisation, trained for as many epochs as
dense."""

from layerprune.core.methods.base import ControlPlan, Question
from layerprune.core.settings import ScratchSettings

VERSION = 1


def plan(settings: ScratchSettings, question: Question) -> ControlPlan:
    """Equal epochs."""
    return ControlPlan(question.matched, "fresh")
