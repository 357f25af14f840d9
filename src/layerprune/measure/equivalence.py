"""The certificate that removal equals gating."""

import torch
from torch import Tensor

from layerprune.models.sections import Gates, SectionedNetwork


@torch.no_grad()
def equivalence_gap(gated: SectionedNetwork, gates: Gates, smaller: SectionedNetwork, images: Tensor) -> float:
    """Largest difference of the logits of `gated` under `gates` and of `smaller`, on `images` [B, C, H, W].

    Relative to the largest logit where that exceeds 1, so that it speaks of float32's resolution.
    """
    was_training = gated.training, smaller.training
    gated.eval(), smaller.eval()
    reference = gated(images, gates)
    gap = (reference - smaller(images)).abs().max() / reference.abs().max().clamp(min=1)
    gated.train(was_training[0]), smaller.train(was_training[1])
    return float(gap)
