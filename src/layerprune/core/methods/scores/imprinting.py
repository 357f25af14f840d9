"""Imprinting (Elkerdawy et al., ICIP 2020; LayerPrune, ACCV 2020, arXiv 2007.05667): gain of proxy accuracy.

The proxy at a place of the network is not trained. Features f are the output, average-pooled to d x d pixels with
d = round(sqrt(512 / channels)), at least 1, and flattened (outputs without height and width as they are); a class's
template is its mean feature, L2-normalised; logits = templates f. Score: accuracy a_l behind section l minus a_(l-1)
behind its predecessor in the chain, the stem for the first.

Deviations: templates come from every other image of the sample and accuracy from the images between them, all
training images without augmentation (theirs: templates from the augmented training set, accuracy on the test set);
proxies stand behind sections, not behind every layer that a convolution follows; a class without a template is never
chosen.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.features import gains, gathered_outputs, halves
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1
FEATURES = 512
"""About as many features at every place, whatever its channels."""


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over the batches."""
    features, labels = gathered_outputs(model, batches, pooled)
    return gains(model, torch.stack([imprinted_accuracy(each, labels) for each in features]).cpu())


def pooled(output: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C * d * d]; [B, D] as it is."""
    if output.dim() == 2:
        return output
    side = max(1, round(math.sqrt(FEATURES / output.shape[1])))
    return functional.adaptive_avg_pool2d(output, side).flatten(1)


def imprinted_accuracy(features: Tensor, labels: Tensor) -> Tensor:
    """Accuracy, a scalar, of templates of every other row of features [N, D], on the remaining rows."""
    (imprinting, judging), (names, truth) = halves(features), halves(labels)
    members = functional.one_hot(names, int(labels.max()) + 1).to(features.dtype).T
    templates = functional.normalize(members @ imprinting)  # a sum has its mean's direction
    logits = (judging @ templates.T).masked_fill(members.sum(1) == 0, -math.inf)
    return (logits.argmax(1) == truth).double().mean()
