"""Linear probes (Chen & Zhao, "Shallowing Deep Networks", TPAMI 41(12), 2019): gain of probe accuracy.

Score: accuracy a_l of a linear classifier behind section l minus a_(l-1) behind its predecessor in the chain, the stem
for the first. Sections that gain less than a threshold go; the rest is fine-tuned with distillation.

Deviations: the paper's probe, its pooling, optimiser and split are not known to us; methods/parts/probes.py says what
stands for them. Every removable section is judged, shape-changing ones too where they may go. Without a threshold as
many sections as asked stay, the best first, so that depths can be matched.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from layerprune.core.methods.base import keep_highest
from layerprune.core.methods.parts.probes import probe_gains
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over the batches."""
    return probe_gains(model, batches)


def choose(scores: list[float], count: int | None, settings: Any) -> list[int]:
    """Keep list: gains of at least `settings.threshold`, or if that is None the `count` highest (None: all)."""
    if settings.threshold is not None:
        return [int(gain >= settings.threshold) for gain in scores]
    return keep_highest(scores, len(scores) if count is None else count)
