"""Weight magnitude (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over filters of sum w^2.

Taken over the first weight layer of each branch, as there. Deviation: none for residual MLPs; in LeNets the section is
a layer and its successor's weights, of which the first is scored.
"""

from collections.abc import Iterable

from torch import Tensor

from layerprune.core.methods.parts.first_layer import mean_over_filters
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]; looks at no data."""
    return mean_over_filters(model, lambda weight: weight.square())
