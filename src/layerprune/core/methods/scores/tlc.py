"""TLC, Till the Layers Collapse (Liao et al., AAAI 2025, arXiv 2412.15077): the loss after a branch has collapsed.

Behind a batch normalisation a channel is N(beta, gamma^2), so it is off with probability Phi(-beta / |gamma|). To
collapse a layer is to zero the channels that are mostly off, beta < 0, and to let the others pass unrectified. Score:
the validation loss with every such rectifier in the branch collapsed, minus that of the whole network; the smallest
rise goes, one section at a time, scored anew, as published. Every section is tried, as in the authors' code.

Deviations: they collapse one layer and keep its convolution; here it is all rectifiers inside a branch at once, and
then the branch goes (an adaptation). Their code takes the loss of one validation batch and removes several layers at a
time while the loss falls; here it is the whole validation split and one section. All removals share one fine-tuning
budget, where they train in full after each. A rectifier that does not stand right behind a batch normalisation stays.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.methods.parts.first_layer import BatchNorm
from layerprune.core.methods.parts.rectifiers import rectifiers_of
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import SettingError

VERSION = 1
REQUIRES = "batch-norm"
LOOKS_AT = "validation"


@torch.no_grad()
def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: summed cross-entropy after the collapse minus that before. L + 1 passes over the batches.

    Raises SettingError for a branch in which nothing can collapse.
    """
    rises = torch.zeros(len(model.sections), dtype=torch.float64)
    for images, labels in batches:
        whole = _loss(model, images, labels)
        for index, section in enumerate(model.sections):
            with collapsed(section.branch) as places:
                rises[index] += (_loss(model, images, labels) - whole).cpu()
            if not places:
                raise SettingError(
                    f"tlc: cannot score {model.arch}: section '{section.name}' has no rectifier right after a batch "
                    "normalisation"
                )
    return rises


@contextmanager
def collapsed(branch: nn.Module) -> Iterator[list[nn.Module]]:
    """While this lasts the rectifiers right behind a batch normalisation are its channels' masks.

    Gives a list that holds, after a forward pass, the rectifiers that were met.
    """
    normalised: list[tuple[Tensor, Tensor]] = []
    met: list[nn.Module] = []

    def note(norm: nn.Module, inputs: Any, output: Tensor) -> None:
        normalised[:] = [(output, norm.bias >= 0)]

    def linearise(rectifier: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if not (normalised and inputs[0] is normalised[0][0]):
            return output
        met.append(rectifier)
        before, open_ = normalised[0]
        return before * open_.to(before.dtype).view(1, -1, *[1] * (before.dim() - 2))

    norms = [layer for layer in branch.modules() if isinstance(layer, BatchNorm) and layer.bias is not None]
    handles = [layer.register_forward_hook(note) for layer in norms]
    handles += [layer.register_forward_hook(linearise) for layer in dict.fromkeys(rectifiers_of(branch))]
    try:
        yield met
    finally:
        for handle in handles:
            handle.remove()


def _loss(model: SectionedNetwork, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(model(images).double(), labels, reduction="sum")
