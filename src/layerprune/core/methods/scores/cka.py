"""CKA (Pons et al., ICPR 2024, arXiv 2405.17081): how little the final representation resembles that without a section.

Score 1 - CKA(X, Y), X [n, d] the final representation of the whole network, Y that of the network with section l
closed, and the biased linear form with centred columns
    CKA(X, Y) = ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F).
The final representation is what enters the last linear layer of the head (in a ResNet the channel means); in a network
whose head has none (vgg16, the LeNets) it is the logits.

Deviations: every removable section is scored, shape-changing ones too where they may go, and no stage must keep two
(the authors leave both out); n is the driver's sample of training images (theirs: unknown in the paper; the
demonstration means 100 a class and takes 100 in all). A closed gate stands for their zeroed BN, with the same outputs.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L] in [0, 1]. One pass over the batches, and one more for each section."""
    count = len(model.sections)
    whole = final_representation(model, batches, None)
    scores = []
    for index in range(count):
        closed: Gates = [CLOSED if each == index else None for each in range(count)]
        similarity = linear_cka(whole, final_representation(model, batches, closed))
        scores.append((1 - similarity).clamp(min=0))  # rounding can lift a similarity of 1 a little
    return torch.stack(scores).cpu()


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """CKA, a scalar in [0, 1], of x [n, d] and y [n, e]. A representation without variance resembles nothing: 0."""
    x, y = x - x.mean(0), y - y.mean(0)
    norms = (_square_norm(x, x) * _square_norm(y, y)).sqrt()
    return _square_norm(x, y) / norms.clamp(min=torch.finfo(norms.dtype).tiny)


def _square_norm(x: Tensor, y: Tensor) -> Tensor:
    """||x^T y||_F^2, by n x n Gram matrices where these are the smaller ones."""
    if len(x) < max(x.shape[1], y.shape[1]):
        return ((x @ x.T) * (y @ y.T)).sum()
    return (x.T @ y).square().sum()


def final_representation(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], gates: Gates) -> Tensor:
    """Final representations [n, d] in float64 of all images, with these gates."""
    linears = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)]
    rows: list[Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        rows.append((inputs[0] if linears else output).flatten(1).double())

    handle = (linears[-1] if linears else model).register_forward_hook(note)
    try:
        with torch.no_grad():
            for images, _ in batches:
                model(images, gates)
    finally:
        handle.remove()
    return torch.cat(rows)
