"""Block influence (ShortGPT: Men et al., arXiv 2403.03853; on other networks arXiv 2411.15558): the angle by which a
section turns its input.

    BI_l = 1 - mean over examples of cos(x_l, x_(l+1)),   x_l and x_(l+1) the section's flattened input and output
The lowest go first, all at once, as published. Only sections that keep the shape of their input can be scored: others
are refused. Deviation: a picture or a row of tokens has one angle an example, over all its positions together, where
language models take one a token. An example that is 0 before or behind a section has cosine 0 there.
"""

from collections.abc import Iterable

from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.features import mean_over_pairs
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import SettingError

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L] in [0, 2], from one pass over the batches. Raises SettingError for a section that changes shapes."""

    def influences(name: str, before: Tensor, behind: Tensor) -> Tensor:
        if before.shape != behind.shape:
            raise SettingError(
                f"block-influence: cannot score {model.arch}: section '{name}' has an input of "
                f"{list(before.shape[1:])} and an output of {list(behind.shape[1:])}, which have no angle between them "
                "(model.removable: shape-preserving leaves such sections out)"
            )
        return 1 - functional.cosine_similarity(before.flatten(1).double(), behind.flatten(1).double())

    return mean_over_pairs(model, batches, influences)
