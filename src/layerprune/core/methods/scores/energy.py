"""Energy statistics (Soltani et al., arXiv 2201.11209): distance between the classes' distributions of outputs.

In each batch, with r its most frequent class (of equals the lowest), the score of a section is the largest over the
other classes j of the energy distance between its flattened outputs X of class r and Y of class j,
    2 E|X - Y| - E|X - X'| - E|Y - Y'|,
in the V-form: E is the mean over all pairs, each image's with itself included, so that one image a class suffices and
no distance is negative. Scores are averaged over batches. Sections of alike scores count as redundant: k-means forms
as many clusters as sections are to stay, and one section of each stays.

Deviations: which section of its cluster stays is our choice, the highest score, of equals the earlier; the reference
class is found batch by batch; one pass over the sample in the driver's batches, weighted by their images (theirs: 20
rounds of 80 batches of 64); a batch of a single class counts 0; one cut, not several stages. The largest distance over
classes is what the authors' code takes (its comment says mean).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from layerprune.core.methods.parts.features import mean_over_batches, of_sections
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over the batches."""
    return of_sections(model, mean_over_batches(model, batches, largest_energy_distance))


def choose(scores: list[float], count: int | None, settings: Any) -> list[int]:
    """Keep list: the highest score of each of `count` clusters, of equals the earlier section (None: all stay)."""
    if count is None:
        return [1] * len(scores)
    clusters = optimal_clusters(scores, count)
    kept = {max(cluster, key=lambda index: (scores[index], -index)) for cluster in clusters}
    return [int(index in kept) for index in range(len(scores))]


def largest_energy_distance(output: Tensor, labels: Tensor) -> Tensor:
    """The largest energy distance, a scalar in float64, of a class from the most frequent class of a batch."""
    flat = output.flatten(1).double()  # in float32 cdist loses short distances between long vectors
    classes, numbers = labels.unique(return_counts=True)
    shares = (labels == classes[:, None]).double() / numbers[:, None]
    means = shares @ torch.cdist(flat, flat) @ shares.T  # mean distance of every two classes, and within each
    reference = numbers.argmax()
    return (2 * means[reference] - means[reference, reference] - means.diagonal()).max()


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
