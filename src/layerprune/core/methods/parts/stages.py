"""Removal orders that take equally many sections from every stage, as scores.

A stage is all sections whose names agree before the "." (`stage2.1` is of `stage2`); names without one make one stage.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from layerprune.core.networks.sections import Section, SectionedNetwork

OrderInStage = Callable[[Sequence[Section]], list[Section]]
"""From all sections of a stage to its removable ones that are alive, in the order in which they should go."""


def stages(model: SectionedNetwork) -> list[list[Section]]:
    """All sections stage by stage, including fixed and removed ones: they determine a section's place in its stage."""
    by_name: dict[str, list[Section]] = {}
    for section in model.chain:
        by_name.setdefault(section.name.rpartition(".")[0], []).append(section)
    return list(by_name.values())


def removal_scores(model: SectionedNetwork, order: OrderInStage) -> Tensor:
    """Scores [L]: a section's place in the order of removal, 0 for the first to go.

    One section of every stage goes, the later stage's first, then the second of every stage, and so on; exhausted
    stages are passed over. Sections already gone count as their stage's first.
    """
    turns = []
    for place, stage in enumerate(stages(model)):
        gone = sum(not section.alive for section in stage)
        turns += [(turn, -place, section.name) for turn, section in enumerate(order(stage), start=gone)]
    rank = {name: score for score, (_, _, name) in enumerate(sorted(turns))}
    return torch.tensor([float(rank[section.name]) for section in model.sections])


def may_go(section: Section) -> bool:
    """Whether a section is there to be removed."""
    return section.removable and section.alive
