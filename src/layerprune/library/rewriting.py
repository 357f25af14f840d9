"""How the pruner changes a model: gates on its sections, and sections removed.

The model stays the same object and runs its own code. Gates are hooks, or calls within the code of an addition;
`absence.Removed` replaces what was removed.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

from torch import Tensor, nn

from layerprune.library import registered_blocks
from layerprune.library.found_sections import FoundSections
from layerprune.library.gates import Gates, GateValue, attach, detach
from layerprune.library.recording import tensors_of
from layerprune.library.removal import without


def _computed(model: nn.Module) -> list[Tensor]:
    """Tensors with a graph that modules hold, as older weight norms do; torch refuses to copy them."""
    held = [value for part in model.modules() for value in vars(part).values()]
    return [each for each in tensors_of(held) if not each.is_leaf]


class Forward:
    """The gates of a model's removable sections, and which of these are still there."""

    def __init__(self, sections: FoundSections) -> None:
        self.model = sections.model
        self.sections, self.passages = sections.removable, sections.passages
        self.alive = [True] * len(self.sections)
        self.gates = Gates(self.model, len(self.sections))

    @property
    def values(self) -> list[GateValue]:
        """Of each section in the next forward pass: [B, 1] or [1, 1], None: open."""
        return self.gates.values

    def install(self) -> None:
        """Put the gates on the model."""
        registered_blocks.use(self.model)
        pairs = zip(self.sections, self.alive, strict=True)
        attach(self.model, self.gates, [each.gateway if stays else None for each, stays in pairs])

    def remove(self, places: Sequence[int]) -> list[nn.Parameter]:
        """Take sections out for good; returns the parameters that have gone with them."""
        before = {id(each): each for each in self.model.parameters()}
        registered_blocks.use(self.model)
        absences = [self.sections[place].absence for place in places]
        for place in places:
            self.alive[place] = False
        gone = {each.name for each, stays in zip(self.sections, self.alive, strict=True) if not stays}
        self.gates.take_out(absences, [each for each in self.passages if each.sections <= gone])
        left = {id(each) for each in self.model.parameters()}
        return [each for key, each in before.items() if key not in left]

    def plain(self) -> nn.Module:
        """A copy of the model without gates; weights are copied."""
        copied = copy.deepcopy(self.model, {id(each): each.detach().clone() for each in _computed(self.model)})
        detach(copied)
        return copied

    def without(self, places: Sequence[int]) -> AbstractContextManager[None]:
        """The model without these sections, for a while."""
        gone = [self.sections[place] for place in places if self.alive[place]]
        names = {each.name for each in gone}
        passages = [each for each in self.passages if each.sections <= names]
        return without(self.model, [each.absence for each in gone], passages)
