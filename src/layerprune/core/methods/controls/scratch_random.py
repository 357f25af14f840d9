"""A random architecture from a fresh initialisation: does it matter which sections gated chose?

As many sections as gated's, or a given number, drawn uniformly without replacement from the removable ones by the run's
seed, then trained like Scratch-E. At least ten seeds make the picture fair (METHODS M11).
"""

import torch

from layerprune.core.methods.base import ControlPlan, Question
from layerprune.core.seeding import generator
from layerprune.core.settings import ScratchAtDepthSettings

VERSION = 1


def plan(settings: ScratchAtDepthSettings, question: Question) -> ControlPlan:
    """A uniform draw; equal epochs."""
    order = torch.randperm(len(question.names), generator=generator("layout", question.seed)).tolist()
    kept = order[: question.keep_count]
    return ControlPlan([int(index in kept) for index in range(len(order))], "fresh")
