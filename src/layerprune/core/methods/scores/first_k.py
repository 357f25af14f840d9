"""First k (a control): sections go from the front of the network to the back, whatever they do; looks at no data.

The order in which the consensus of Pons et al. (arXiv 2411.14345) empties ResNet-56 in the authors' repository: a
consensus no better than this has found nothing but an order.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: a section's place in the network, 0 for the first to go."""
    return torch.arange(len(model.sections), dtype=torch.float32)
