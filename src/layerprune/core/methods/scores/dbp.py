"""DBP, discrimination-based block pruning (Wang et al., arXiv 1912.10178): gain of probe accuracy.

Score: accuracy of a linear classifier behind section l minus that behind its predecessor in the chain, the stem for
the first; the smallest gains go first until a budget of sections is met, and plain fine-tuning follows.

Deviations: only the abstract was read, so the criterion is reconstructed from it and from the same group's later work
(arXiv 2010.04879), and the probe is ours (methods/parts/probes.py). One shot; nothing is probed anew after a removal.
Every removable section is judged, shape-changing ones too where they may go.
"""

from collections.abc import Iterable

from torch import Tensor

from layerprune.core.methods.parts.probes import probe_gains
from layerprune.core.networks.sections import SectionedNetwork

VERSION = 1


def score(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores [L], from one pass over the batches."""
    return probe_gains(model, batches)
