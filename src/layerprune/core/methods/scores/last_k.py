"""Last k of each stage (a control): equally many from the end of every stage, whatever they do; looks at no data.

Order of removal: the last section of every stage, then the second to last of every stage, and so on; within a round
the later stage comes first. The first section of a stage stays longest.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor

from layerprune.core.methods.parts.stages import may_go, removal_scores
from layerprune.core.networks.sections import Section, SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: places in the order of removal; looks at no data."""
    return removal_scores(model, _backwards)


def _backwards(stage: Sequence[Section]) -> list[Section]:
    return [section for section in reversed(stage) if may_go(section)]
