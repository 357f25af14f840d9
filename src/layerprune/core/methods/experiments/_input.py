"""What an experiment may use: a network, any part of it, and its training under gates."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from layerprune.core import surgery
from layerprune.core.measure import equivalence_gap
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.networks.sections import SectionedNetwork, mask_gates


@dataclass(frozen=True)
class ExperimentInput:
    """A network, the trained dense one where the experiment starts from it, else a fresh one; nothing may change it.

    `accuracy` is a network's on the validation split of `images_seen` images in `classes` classes, `certified` the
    images [B, C, H, W] on which two networks are compared, `sample` gives so many training images [B, C, H, W] with
    their labels [B], and `train` a fresh network after so many epochs of training by a method. What takes longer than
    these calls `go_on` now and then: it raises Preempted where the process has been told to end.
    """

    network: SectionedNetwork
    seed: int
    classes: int
    images_seen: int
    certified: Tensor
    accuracy: Callable[[SectionedNetwork], float]
    sample: Callable[[int], tuple[Tensor, Tensor]]
    train: Callable[[type[TrainingMethod], int], SectionedNetwork]
    go_on: Callable[[], None]

    def without(self, keep: Sequence[int]) -> SectionedNetwork:
        """A copy from which the sections with entry 0 are gone, folded as a finished run's network."""
        smaller = copy.deepcopy(self.network)
        surgery.remove_all_but(smaller, keep)
        surgery.fold(smaller)
        return smaller

    def gap(self, keep: Sequence[int], smaller: SectionedNetwork) -> float:
        """The gap between the whole network under gates `keep` and the smaller one; see measure.equivalence_gap."""
        gates = mask_gates([float(stays) for stays in keep], self.certified.device)
        return equivalence_gap(self.network, gates, smaller, self.certified)
