"""The certificate that removal equals gating."""

import torch
from torch import Tensor

from layerprune.core.measure.modes import evaluating
from layerprune.core.networks.sections import Gates, SectionedNetwork


@torch.no_grad()
def equivalence_gap(gated: SectionedNetwork, gates: Gates, smaller: SectionedNetwork, images: Tensor) -> float:
    """Largest difference of the logits of `gated` under `gates` and of `smaller`, on `images` [B, C, H, W].

    Relative to the largest logit where that exceeds 1, so that it speaks of float32's resolution.
    """
    with evaluating(gated, smaller):
        reference = gated(images, gates)
        return float((reference - smaller(images)).abs().max() / reference.abs().max().clamp(min=1))
