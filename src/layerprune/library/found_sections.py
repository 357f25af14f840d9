"""What is said of the sections of a model."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.library import examples
from layerprune.library.gates import Gateway
from layerprune.library.passages import Passage
from layerprune.library.recording import Recording
from layerprune.library.removal import parameters_of
from layerprune.library.residuals import Residual
from layerprune.library.what_goes import Absence


@dataclass(frozen=True)
class FoundSection:
    """One section: its name, the shape of what it adds (without the batch), its cost, and whether it may be removed."""

    name: str
    shape: tuple[int, ...]
    macs: int
    params: int
    removable: bool
    reason: str
    """Why it may not be removed; empty if it may."""
    residual: Residual
    """Its operations, in the recording in which it was found."""
    absence: Absence
    """The modules and weights that are removed with it."""
    gateway: Gateway | None
    """Where its branch is gated; None if it cannot be gated."""

    @property
    def owned(self) -> tuple[str, ...]:
        """Modules, weights and buffers of the branch, by their paths in the model."""
        return self.absence.owned

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The branch's parameters, in a model that still has them. Raises LayerpruneError where it has not."""
        try:
            return parameters_of(model, self.owned)
        except AttributeError:
            raise LayerpruneError(
                f"section '{self.name}' is not in the model any more: call find_sections after the last change to it"
            ) from None


class FoundSections(Sequence[FoundSection]):
    """The sections of a model in the order in which they are computed, with the recording in which they were found."""

    def __init__(
        self,
        model: nn.Module,
        trace: Recording,
        macs: int,
        found: Sequence[FoundSection],
        example: Any,
        passages: Sequence[Passage] = (),
    ) -> None:
        self.model = model
        self.trace = trace
        self._example = example
        self.macs = macs
        """Multiply-adds of the whole model, for one input."""
        self.passages = tuple(passages)
        """Blocks that are replaced once all their sections are removed."""
        self._found = tuple(found)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    @property
    def example(self) -> Any:
        """The example input; if the model has been cast since (`model.bfloat16()`), in the type of its weights."""
        return examples.in_precision(self._example, self.trace.dtype, examples.precision_of(self.model))

    @property
    def removable(self) -> tuple[FoundSection, ...]:
        """The sections that may be removed."""
        return tuple(section for section in self if section.removable)

    def left_without(self, names: Collection[str]) -> list[FoundSection]:
        """Those that neither are removed nor lie within one that is."""
        gone = {node for section in self if section.name in names for node in section.residual.exclusive}
        return [each for each in self if each.name not in names and each.residual.addition not in gone]

    def but(self, kept: dict[str, str]) -> "FoundSections":
        """The same sections, some of which must stay: `kept` maps their names to reasons."""
        found = [replace(one, removable=False, reason=kept[one.name]) if one.name in kept else one for one in self]
        return FoundSections(self.model, self.trace, self.macs, found, self._example, self.passages)

    def without_passages(self) -> "FoundSections":
        """The same sections; blocks stay even once they have no section left."""
        return FoundSections(self.model, self.trace, self.macs, self._found, self._example)

    def shaped(self) -> "FoundSections":
        """The same sections; absent values know their shapes, which takes longer."""
        found = [replace(each, absence=replace(each.absence, shaped=True)) for each in self]
        return FoundSections(self.model, self.trace, self.macs, found, self._example, self.passages)

    def of_copy(self, model: nn.Module) -> "FoundSections":
        """The same sections in a copy of the model."""
        return FoundSections(model, self.trace, self.macs, self._found, self._example, self.passages)

    def __str__(self) -> str:
        width = max(len(section.name) for section in self)
        lines = [f"{'section':{width}}  {'adds':>16}  {'MACs':>14}  {'parameters':>11}  may go"]
        for each in self:
            shape = "x".join(map(str, each.shape))
            told = "yes" if each.removable else f"no: {each.reason}"
            lines.append(f"{each.name:{width}}  {shape:>16}  {each.macs:>14,}  {each.params:>11,}  {told}")
        return "\n".join(lines)
