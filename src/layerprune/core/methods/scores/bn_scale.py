"""BN scale (LayerPrune, Elkerdawy et al., ACCV 2020, arXiv 2007.05667): mean over channels of |gamma|.

Of the batch normalisation behind the first weight layer of each branch. Deviation: in a branch of three convolutions
the first one alone counts, where the authors average over the block's two.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.methods.parts.first_layer import first_batch_norm
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import SettingError

VERSION = 1
REQUIRES = "batch-norm"


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]; looks at no data. Raises SettingError for a branch without such a layer."""
    return torch.stack([_gamma(section, model.arch).detach().abs().mean() for section in model.sections])


def _gamma(section: Section, arch: str) -> Tensor:
    gamma = getattr(first_batch_norm(section.branch), "weight", None)
    if gamma is None:
        raise SettingError(
            f"bn-scale: section '{section.name}' of {arch} has no batch normalisation with gammas after its weights"
        )
    return gamma
