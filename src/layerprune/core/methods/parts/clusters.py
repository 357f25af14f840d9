"""k-means on a line, solved exactly.

On a line the clusters of an optimum are intervals of the ordered values, so a dynamic programme over the places of the
cuts finds it (Wang & Song, The R Journal 2011, "Ckmeans.1d.dp").
"""

import math
from collections.abc import Sequence


def optimal_clusters(values: Sequence[float], count: int) -> list[list[int]]:
    """Indices of `values` in `count` clusters, none empty, with the least sum of squared distances to the means.

    Clusters in rising order, and so within them; equal values in the order of their indices. `count` <= len(values).
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
