"""Uniform thinning (a control): equally many from every stage, evenly spread; looks at no data.

Order of removal: one section of every stage, the later stage's first, then a second one of every stage, and so on.
Within a stage of n sections at 0 ... n-1 goes each time the one whose loss leaves the m others nearest to an even
spacing: the least sum of squared distances to the middles of m equal parts, (i + 1/2) n/m - 1/2; of equals the later.
Sections that always stay are among the m others. So resnet-20's stages of three lose 1, then 2, then 0.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor

from layerprune.core.methods.parts.stages import may_go, removal_scores
from layerprune.core.networks.sections import Section, SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: places in the order of removal; looks at no data."""
    return removal_scores(model, _thinning)


def _thinning(stage: Sequence[Section]) -> list[Section]:
    left = [place for place, section in enumerate(stage) if section.alive]
    order = []
    while candidates := [place for place in left if may_go(stage[place])]:
        going = _least_missed(left, candidates, len(stage))
        left.remove(going)
        order.append(stage[going])
    return order


def _least_missed(left: Sequence[int], candidates: Sequence[int], size: int) -> int:
    """The candidate without which the places `left` are spaced most evenly over `size`."""
    return min(candidates, key=lambda going: (_unevenness([place for place in left if place != going], size), -going))


def _unevenness(places: Sequence[int], size: int) -> int:
    """Sum of squared distances to an even spacing, times (2m)^2: whole numbers, so that equals are equal."""
    m = len(places)
    return sum((2 * m * place - ((2 * i + 1) * size - m)) ** 2 for i, place in enumerate(places))
