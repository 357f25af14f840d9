"""Graph modularity (Lu et al., ECCV 2022, arXiv 2111.12485): gain of modularity of the classes among nearest images.

The images of a batch form an undirected graph: an edge joins two where either is among the other's 3 nearest by cosine
similarity of the flattened outputs, and the similarity is its weight. Q is Newman's modularity of the partition by
true class, averaged over batches (weighted by their images). Score: Q_l behind section l minus Q_(l-1) behind its
predecessor in the chain, the stem for the first. Looks at validation images, as the authors do.

Deviations: negative similarities weigh 0, for Newman's formula has no negative weights; of equally near images the
earlier ones are neighbours; the driver's batches instead of five batches of 500; an edge-less graph has Q = 0; matched
depth instead of a threshold on the gain.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.methods.parts.features import gains, mean_over_batches
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1
LOOKS_AT = "validation"
NEIGHBOURS = 3


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over the batches."""
    return gains(
        model,
        mean_over_batches(model, batches, lambda output, labels: modularity(neighbour_graph(output), labels)),
    )


def neighbour_graph(output: Tensor) -> Tensor:
    """Symmetric edge weights [B, B] >= 0 between the nearest of B outputs; the diagonal is 0."""
    directions = functional.normalize(output.flatten(1))
    similarity = directions @ directions.T
    oneself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    ranked = similarity.masked_fill(oneself, -math.inf).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(oneself).scatter(1, ranked[:, : min(NEIGHBOURS, len(ranked) - 1)], True)
    return similarity.clamp(min=0) * (chosen | chosen.T)


def modularity(graph: Tensor, labels: Tensor) -> Tensor:
    """Newman's Q (weighted: Phys. Rev. E 70, 056131, 2004), a scalar in float64, of A = `graph` [B, B].

    Q = 1/2m * sum over the pairs i, j of one class of (A_ij - k_i k_j / 2m), 2m the sum of all degrees k.
    """
    graph = graph.double()
    degrees = graph.sum(1)
    twice_weight = degrees.sum().clamp(min=torch.finfo(degrees.dtype).tiny)
    excess = graph - degrees.outer(degrees) / twice_weight
    return (excess * (labels[:, None] == labels)).sum() / twice_weight
