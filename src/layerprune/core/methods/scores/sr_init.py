"""SR-init (Tang et al., ICASSP 2023, arXiv 2303.07677): the accuracy lost when one section is initialised anew.

One at a time, a branch's whole state (weights, batch normalisation and its statistics) gives way to that of a freshly
initialised branch. Deviations: a mean over DRAWS random states, where the authors take one; accuracy on the validation
split, where theirs is the test set; the sections to keep are as many as asked for, where theirs are those above a
threshold set by hand for each network. A residual MLP's fresh branch is not shrunk by 1/sqrt(n).
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.core.seeding import present

VERSION = 1
LOOKS_AT = "validation"
DRAWS = 3


@torch.no_grad()
def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L]: accuracy of the whole network minus the mean of those with section l fresh; the network stays."""
    right, examples = _count_right(model, batches)
    drops = []
    for section in model.sections:
        lost = 0  # whole numbers: equal drops are exactly equal
        for _ in range(DRAWS):
            with reinitialised(section):
                lost += right - _count_right(model, batches)[0]
        drops.append(lost / (DRAWS * examples))
    return torch.tensor(drops)


def _count_right(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[int, int]:
    """Examples classified correctly, and examples."""
    right, examples = torch.zeros((), dtype=torch.int64), 0
    for images, labels in batches:
        right = right.to(labels.device) + (model(images).argmax(1) == labels).sum()
        examples += len(labels)
    return int(right), examples


@contextmanager
def reinitialised(section: Section) -> Iterator[None]:
    """Put a fresh branch, drawn from the driver's generator, in place of the trained one, which is untouched.

    Fresh is the whole state: weights by the rule of networks.build.initialise (without an architecture's `rescale`),
    biases at 0, batch normalisation with its statistics as it was made.
    """
    trained = section.branch
    section.branch = copy.deepcopy(trained)
    try:
        _reinitialise(section.branch)
        yield
    finally:
        section.branch = trained


def _reinitialise(branch: nn.Module) -> None:
    with torch.no_grad():
        for layer in branch.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                _draw_weights(layer)
            elif _has_state(layer):
                layer.reset_parameters()


def _draw_weights(layer: nn.Linear | nn.Conv2d) -> None:
    # On the CPU and in one memory layout: every device gets the same numbers.
    fresh = torch.empty_like(layer.weight, device="cpu", memory_format=torch.contiguous_format)
    layer.weight.copy_(nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=present()))
    if layer.bias is not None:
        layer.bias.zero_()


def _has_state(layer: nn.Module) -> bool:
    own = *layer.parameters(recurse=False), *layer.buffers(recurse=False)
    return len(own) > 0
