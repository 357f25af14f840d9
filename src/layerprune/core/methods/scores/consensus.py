"""Consensus (Pons et al., arXiv 2411.14345): the sum of a section's ranks under several scores.

Each of `metrics`, scores of this suite, ranks the sections from 1 for the lowest; equal scores share the mean of their
ranks. The least sum goes, one section at a time, scored anew, as published.

Deviations: the authors' eight metrics all compare the final representation with and without a section, of which this
suite has `cka`; the others here are whatever `metrics` names. All look at the same sample of training images, those
too that look at the validation split elsewhere. All removals share one fine-tuning budget.
"""

import importlib
from collections.abc import Iterable

import torch
from torch import Tensor

from layerprune.core.methods import families, module_name, settings_class
from layerprune.core.methods.base import checked_scores, score_under
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import ConsensusSettings
from layerprune.errors import SettingError

VERSION = 2
"""To be raised with that of any score it may name."""


def score(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], settings: ConsensusSettings | None = None
) -> Tensor:
    """Scores [L]: sums of ranks. It costs what the metrics cost together. Raises SettingError for an unknown metric."""
    total = torch.zeros(len(model.sections), dtype=torch.float64)
    for slug in (settings or ConsensusSettings()).metrics:
        total += ranks(_score_named(slug, model, batches))
    return total


def ranks(scores: Tensor) -> Tensor:
    """Ranks [L] from 1 for the lowest score; equal ones share the mean of theirs."""
    values = scores.detach().cpu()
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below.double() + (equal + 1) / 2


def _score_named(slug: str, model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    known = [name for name, family in families().items() if family == "scores" and name != "consensus"]
    if slug not in known:
        raise SettingError(f"settings.metrics: '{slug}' is not a score (known: {', '.join(known)})")
    scores = score_under(importlib.import_module(module_name(slug)), settings_class(slug)())(model, batches)
    checked_scores(slug, scores, [section.name for section in model.sections])  # ranks would hide what is no number
    return scores
