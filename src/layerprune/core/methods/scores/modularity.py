"""Graph modularity (Lu et al., ECCV 2022, arXiv 2111.12485): gain of modularity of the classes among nearest images.

The images of a batch of 500 form a graph: each has an edge to its 3 nearest by cosine similarity of the flattened
outputs, and the similarity is its weight. (A + A^T) / 2 makes it undirected: an edge that one of the two alone has
counts half. Q is Newman's modularity of the partition by true class, averaged over five batches. Score: Q_l behind
section l minus Q_(l-1) behind its predecessor in the chain; for the first it is that of the stem's first weight layer,
before the stem's normalisation and rectifier. Looks at validation images, as the authors do.

Deviations: negative similarities weigh 0, for Newman's formula has no negative weights; of equally near images the
earlier ones are neighbours; fewer batches if there are fewer images, and a single smaller one if there are fewer than
500; an edge-less graph has Q = 0; matched depth instead of a threshold on the gain.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.methods.parts.features import chain_outputs, gains
from layerprune.core.methods.parts.first_layer import WeightLayer
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 3
LOOKS_AT = "validation"
NEIGHBOURS = 3
IMAGES = 500
BATCHES = 5


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over up to BATCHES * IMAGES images."""
    start = next((layer for layer in model.stem.modules() if isinstance(layer, WeightLayer)), model.stem)
    found = [_of_places(model, start, *batch) for batch in regrouped(batches)]
    return gains(model, torch.stack(found).mean(0).cpu())


def _of_places(model: SectionedNetwork, start: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    numbers = chain_outputs(model, images, lambda output: modularity(neighbour_graph(output), labels), start)
    return torch.stack(numbers)


def regrouped(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The first BATCHES batches of IMAGES examples; a single smaller batch if there are fewer than IMAGES."""
    images, labels, given = [], [], 0
    for each in batches:
        images.append(each[0])
        labels.append(each[1])
        while sum(map(len, labels)) >= IMAGES:
            pooled, names = torch.cat(images), torch.cat(labels)
            yield pooled[:IMAGES], names[:IMAGES]
            images, labels, given = [pooled[IMAGES:]], [names[IMAGES:]], given + 1
            if given == BATCHES:
                return
    if not given:
        yield torch.cat(images), torch.cat(labels)


def neighbour_graph(output: Tensor) -> Tensor:
    """Symmetric edge weights [B, B] >= 0 between the nearest of B outputs; the diagonal is 0."""
    directions = functional.normalize(output.flatten(1))
    similarity = directions @ directions.T
    oneself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    ranked = similarity.masked_fill(oneself, -math.inf).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(oneself).scatter(1, ranked[:, : min(NEIGHBOURS, len(ranked) - 1)], True)
    directed = similarity.clamp(min=0) * chosen
    return (directed + directed.T) / 2


def modularity(graph: Tensor, labels: Tensor) -> Tensor:
    """Newman's Q (weighted: Phys. Rev. E 70, 056131, 2004), a scalar in float64, of A = `graph` [B, B].

    Q = 1/2m * sum over the pairs i, j of one class of (A_ij - k_i k_j / 2m), 2m the sum of all degrees k.
    """
    graph = graph.double()
    degrees = graph.sum(1)
    twice_weight = degrees.sum().clamp(min=torch.finfo(degrees.dtype).tiny)
    excess = graph - degrees.outer(degrees) / twice_weight
    return (excess * (labels[:, None] == labels)).sum() / twice_weight
