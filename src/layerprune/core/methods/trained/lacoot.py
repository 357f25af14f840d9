"""LaCoOT (Quetu, Liao, Tartaglione, ICCV 2025, arXiv 2406.08933): layers collapse under optimal transport.

    mean loss + lambda * mean over sections of MSW(x_l, x_(l+1))
MSW, the max-sliced 2-Wasserstein distance between the flattened inputs and outputs of a section over the mini-batch:
both are projected on PROJECTIONS random unit directions and sorted, and of the root mean squares of the differences
the largest counts. Directions are new in every step. lambda has no warm-up: it acts from the first step. After
training the distances are taken on the validation split, and sections go, the smallest distance first, as long as the
validation accuracy stays within `tolerance` of the whole network's, or down to a given number. Nothing is retrained.

Only sections that keep the shape of their input have a distance; the others are not regularised and go last. The
gradient flows through the largest slice alone, so the others are projected without one. For each example a step costs 2
d (PROJECTIONS + 2) multiply-adds beside the network's, d the numbers that its sections return: 6 % of a ResNet-20's
step. The training cost includes them and the selection's forward passes, but not its projections of the validation
split.

Deviations: of ResNet-18 the authors' code regularises and removes the second section of each stage, here it is every
section of one shape; their `tolerance` was not found; distances are not taken anew after a removal, as in their code;
they project validation images in batches of 128, here in those of the evaluation, in a random order.
It looks at sections from outside while they are computed: it runs eagerly where training is `compiled`, not by several
processes, and its steps can be recorded (`graphs`).
"""

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.methods.base import Context, Outcome, TrainingMethod, keep_highest
from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork, mask_gates
from layerprune.core.seeding import generator
from layerprune.core.settings import LacootSettings
from layerprune.errors import SettingError

VERSION = 2
PROJECTIONS = 50


def directions(size: int, source: torch.Generator) -> Tensor:
    """Random unit vectors as columns [size, PROJECTIONS], uniform on the sphere, on the generator's device."""
    drawn = torch.randn(size, PROJECTIONS, generator=source, device=source.device)
    return drawn / drawn.norm(dim=0)


def max_sliced_distance(x: Tensor, y: Tensor, slices: Tensor) -> Tensor:
    """The largest 2-Wasserstein distance, a scalar, between projections of x and y [B, d] on columns of `slices`."""
    with torch.no_grad():
        best = _distances(x, y, slices).argmax()
    return _distances(x, y, slices.index_select(1, best.view(1))).squeeze(0)


def _distances(x: Tensor, y: Tensor, slices: Tensor) -> Tensor:
    apart = (x @ slices).sort(dim=0).values - (y @ slices).sort(dim=0).values
    # A root has no slope at 0, where a branch that gives nothing is.
    return apart.square().mean(0).clamp(min=torch.finfo(apart.dtype).tiny).sqrt()


class Method(TrainingMethod):
    """Distances of the sections that keep their shape; what was decided after training."""

    aims_to_prune = True
    looks_inside = True
    supports_process_groups = False  # a batch's distribution is no mean over its parts

    def __init__(self, settings: LacootSettings, network: SectionedNetwork, context: Context) -> None:
        super().__init__(settings, network, context)
        self.measured = [index for index, section in enumerate(network.sections) if section.preserves_shape]
        if not self.measured:
            raise SettingError(f"lacoot: no removable section of {network.arch} keeps the shape of its input")
        self.pairs: dict[int, tuple[Tensor, Tensor]] = {}
        self.handles: list[Any] = []
        self.decided: dict[str, Any] = {}

    def start_epoch(self, epoch: int) -> None:
        self._reseed(epoch)

    def phase(self, step: int) -> Hashable:
        return ()

    # --- training ---------------------------------------------------------------------------------------------

    def gates(self, step: int, batch: int) -> Gates:
        self._stop_looking()
        self.handles = self._look(self.pairs.__setitem__)
        return None

    def penalty(self, step: int) -> Tensor:
        self._stop_looking()
        found, numbers = [], 0
        for index in self.measured:
            x, y = (each.flatten(1).float() for each in self.pairs.pop(index))
            found.append(max_sliced_distance(x, y, directions(x.shape[1], self.noise)))
            numbers += x.shape[1]
        # Both sides on all directions, then on the best of them forward and backward.
        self.macs_beside = 2 * numbers * (PROJECTIONS + 2)
        return self.settings.strength * torch.stack(found).mean()

    def _look(self, see: Callable[[int, tuple[Tensor, Tensor]], None]) -> list[Any]:
        """Call `see(index, (input, output))` whenever a measured section is computed; returns the hooks."""

        def note(index: int, section: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            see(index, (inputs[0], output))

        return [self.network.sections[index].register_forward_hook(partial(note, index)) for index in self.measured]

    def _stop_looking(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    # --- selection --------------------------------------------------------------------------------------------

    def finish(self, accuracy_of: Callable[[Gates], float]) -> None:
        count = self.context.sections
        with self._distances_of_all_images() as distances:
            whole = accuracy_of(None)
        keep, accuracies = [1] * count, [whole]
        if self.context.keep_count is not None:
            keep = keep_highest(distances, self.context.keep_count)
        else:
            for index in sorted(self.measured, key=lambda index: (distances[index], index)):
                tried = [int(stays and place != index) for place, stays in enumerate(keep)]
                accuracies.append(accuracy_of([None if stays else CLOSED for stays in tried]))
                if accuracies[-1] < whole - self.settings.tolerance:
                    break
                keep = tried
        self.decided = {"keep": keep, "distances": distances, "accuracies": accuracies}

    @contextmanager
    def _distances_of_all_images(self) -> Iterator[list[float]]:
        """Afterwards the list has each section's mean distance over the images it saw; infinite where it has none."""
        sums, counts = torch.zeros(self.context.sections, dtype=torch.float64), [0] * self.context.sections
        source = generator("directions", self.context.seed)

        def see(index: int, pair: tuple[Tensor, Tensor]) -> None:
            with torch.autocast(pair[0].device.type, enabled=False):
                x, y = (each.flatten(1).float() for each in pair)
                distance = max_sliced_distance(x, y, directions(x.shape[1], source).to(x.device))
            sums[index] += len(x) * distance.cpu()
            counts[index] += len(x)

        handles, distances = self._look(see), []
        try:
            yield distances
        finally:
            for handle in handles:
                handle.remove()
        distances += [total / count if count else math.inf for total, count in zip(sums.tolist(), counts, strict=True)]

    def evaluation_gates(self) -> Gates:
        return mask_gates(self.decided["keep"], self.context.device) if self.decided else None

    def outcome(self) -> Outcome:
        if not self.decided:  # training ended early
            return super().outcome()
        details = {name: self.decided[name] for name in ("distances", "accuracies")}
        return Outcome(self.decided["keep"], details=details)

    def state(self) -> dict[str, Any]:
        return {"decided": self.decided}

    def load_state(self, state: dict[str, Any]) -> None:
        self.decided = state["decided"]
