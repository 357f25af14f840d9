"""Random sections: the control that every score must beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Uniform numbers [L]; the driver seeds torch's generator from the run's seed."""
    return torch.rand(len(model.sections))
