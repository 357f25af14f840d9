"""Energy statistics (Soltani et al., arXiv 2201.11209): distance between the classes' distributions of outputs.

With r the most frequent class of a sample (of equals the lowest), the score of a section is the largest over the other
classes j of the energy distance between its branch's flattened outputs, before the addition, X of class r and Y of j,
    2 E|X - Y| - E|X - X'| - E|Y - Y'|,
in the V-form: E is the mean over all pairs, each image's with itself included, so that one image a class suffices and
no distance is negative. The sample is one pool: on single batches the distances would be much too large. Sections of
alike scores count as redundant: k-means forms as many clusters as sections are to stay, and of each the earliest stays.

Deviations: one round of 5,184 images, the authors' 81 batches of 64, where they average 20 rounds; a sample of a single
class counts 0; one cut, not several stages. For basic blocks their code calls a layer that does not exist; that it,
too, means the branch's output is inferred from bottlenecks. The largest distance over classes is what it takes (its
comment says mean). The branches' outputs of the whole sample are held in memory at once.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import SectionedNetwork

VERSION = 2


@torch.no_grad()
def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L] in float64, from one pass over the batches."""
    rows: list[list[Tensor]] = [[] for _ in model.sections]
    labels = []

    def note(index: int, branch: nn.Module, inputs: Any, output: Tensor) -> None:
        rows[index].append(output.flatten(1))

    handles = [each.branch.register_forward_hook(partial(note, index)) for index, each in enumerate(model.sections)]
    try:
        for images, names in batches:
            model(images)
            labels.append(names)
    finally:
        for handle in handles:
            handle.remove()
    distances = []
    for place in range(len(rows)):
        distances.append(largest_energy_distance(torch.cat(rows[place]), torch.cat(labels)).cpu())
        rows[place].clear()
    return torch.stack(distances)


def choose(scores: list[float], count: int | None, settings: Any) -> list[int]:
    """Keep list: the earliest section of each of `count` clusters of scores (None: all stay)."""
    if count is None:
        return [1] * len(scores)
    kept = {min(cluster) for cluster in optimal_clusters(scores, count)}
    return [int(index in kept) for index in range(len(scores))]


def largest_energy_distance(output: Tensor, labels: Tensor) -> Tensor:
    """The largest energy distance, a scalar in float64, of a class from the most frequent class of a sample."""
    classes, numbers = labels.unique(return_counts=True)
    reference = int(numbers.argmax())
    # In float32 cdist loses short distances between long vectors.
    groups = [output[labels == name].flatten(1).double() for name in classes]
    within = [torch.cdist(group, group).mean() for group in groups]
    first, around = groups[reference], within[reference]
    return torch.stack(
        [2 * torch.cdist(first, group).mean() - around - own for group, own in zip(groups, within, strict=True)]
    ).max()


def optimal_clusters(values: Sequence[float], count: int) -> list[list[int]]:
    """Indices of `values` in `count` clusters, none empty, with the least sum of squared distances to the means.

    k-means on a line, solved exactly: the clusters of an optimum are intervals of the ordered values, so a dynamic
    programme over the places of the cuts finds it (Wang & Song, The R Journal 2011, "Ckmeans.1d.dp"). Clusters in
    rising order, and so within them; equal values in the order of their indices. `count` <= len(values).
    """
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    spreads = _spreads([values[index] for index in order])
    stops = range(1, len(order) + 1)
    costs, starts = [0.0] + [math.inf] * len(order), []
    for _ in range(count):  # costs[stop]: the least cost of the first `stop` values in as many clusters as rounds
        best = [min((costs[start] + spreads[start, stop], start) for start in range(stop)) for stop in stops]
        costs = [math.inf] + [cost for cost, _ in best]
        starts.append([0] + [start for _, start in best])
    clusters, stop = [], len(order)
    for row in reversed(starts):
        clusters.insert(0, order[row[stop] : stop])
        stop = row[stop]
    return clusters


def _spreads(ordered: Sequence[float]) -> dict[tuple[int, int], float]:
    """Sum of squared distances to the mean of ordered[start:stop], by (start, stop)."""
    return {(start, stop): _spread(ordered[start:stop]) for stop in range(1, len(ordered) + 1) for start in range(stop)}


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)
