"""Random sections: the control that every score must beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.seeding import present

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Uniform numbers [L] from the driver's generator, which it seeds from the run's seed."""
    return torch.rand(len(model.sections), generator=present())
