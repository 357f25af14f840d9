"""EASIER (Quetu & Tartaglione, ECML 2024, arXiv 2404.18949): the entropy of the rectifiers in a branch.

For each channel p is the share of examples, averaged over positions, whose pre-activation is at least 0, and
    H = -p log2 p - (1 - p) log2 (1 - p);
a rectifier's score is the mean over its channels. A rectifier that is always on or always off has H = 0: its layer is
linear. One section goes at a time, scored anew, as published.

Deviations: the authors make the rectifier with the least entropy linear and leave the layers; here the score of a
section is the mean over the rectifiers inside its branch, and the branch goes (an adaptation). The entropy is that of
the whole sample under the trained weights, theirs the mean over the batches of the last training epoch; and all
removals share one fine-tuning budget, where they train in full after each.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from layerprune.core.methods.parts.rectifiers import watching
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import SettingError

VERSION = 1


@torch.no_grad()
def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L] in [0, 1], from one pass over the batches. Raises SettingError for a branch without a rectifier."""
    totals: list[list[Tensor]] = [[] for _ in model.sections]
    examples = 0
    for images, _ in batches:
        found: list[list[Tensor]] = [[] for _ in model.sections]

        def note(index: int, rectifier: nn.Module, given: Tensor, found: list[list[Tensor]] = found) -> None:
            found[index].append(len(given) * share_on(given, _channels_last(model.sections[index].branch, rectifier)))

        with watching(model, note):
            model(images)
        totals = [_added(*each) for each in zip(totals, found, strict=True)]
        examples += len(images)
    for section, shares in zip(model.sections, totals, strict=True):
        if not shares:
            raise SettingError(f"easier: cannot score {model.arch}: section '{section.name}' has no rectifier")
    return torch.stack([torch.stack([entropy(on / examples).mean() for on in each]).mean() for each in totals]).cpu()


def share_on(given: Tensor, channels_last: bool = False) -> Tensor:
    """For each channel [C] the share of examples and positions at which `given` [B, C, ...] is at least 0."""
    by_channel = given if channels_last else given.movedim(1, -1)
    return (by_channel >= 0).flatten(0, -2).double().mean(0)


def entropy(on: Tensor) -> Tensor:
    """Entropy in bits of a variable that is on with probability `on`; 0 where that is 0 or 1. Shapes as given."""
    return -(torch.xlogy(on, on) + torch.xlogy(1 - on, 1 - on)) / torch.log(torch.tensor(2.0, dtype=on.dtype))


def _added(before: list[Tensor], found: list[Tensor]) -> list[Tensor]:
    return found if not before else [one + other for one, other in zip(before, found, strict=True)]


def _channels_last(branch: nn.Module, rectifier: nn.Module) -> bool:
    """Whether the weights that come before the rectifier are those of a linear layer, as where tokens are computed."""
    last = None
    for layer in branch.modules():
        if layer is rectifier:
            break
        last = layer if isinstance(layer, nn.Linear | nn.Conv2d) else last
    return isinstance(last, nn.Linear)
