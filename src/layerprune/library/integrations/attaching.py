"""Shared by the callbacks of other libraries' trainers: which module is pruned, and how its checkpoints are read.

A trainer reads the model's weights first, then makes the optimizer, and reads the optimizer's state last. So a section
whose weights a checkpoint lacks leaves the model as soon as the weights are read.
"""

from typing import Any

from torch import nn

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.examples import moved
from layerprune.library.find_sections import Granularity, find_sections
from layerprune.library.found_sections import FoundSection, FoundSections
from layerprune.library.pruner_checks import trainable
from layerprune.library.rewriting import Forward


def network_of(model: nn.Module, name: str | None) -> nn.Module:
    """The module within a trainer's model that is pruned: the named one; of a Hugging Face model with a head the inner
    one; the only one with weights; or the model itself."""
    if name is not None:
        found = dict(model.named_modules()).get(name)
        if found is None:
            names = ", ".join(name for name, _ in model.named_children())
            raise LayerpruneError(f"PruneLayers: {type(model).__name__} has no module '{name}'; it has {names}")
        return found
    inner = getattr(model, "base_model", None)
    if isinstance(inner, nn.Module):
        return inner
    children = [child for child in model.children() if any(True for _ in child.parameters())]
    return children[0] if len(children) == 1 and not any(True for _ in model.parameters(recurse=False)) else model


class Attached:
    """Sections of a model whose weights may yet be read from a checkpoint, and then their pruner."""

    def __init__(self, network: nn.Module, example_input: Any, granularity: Granularity = "section") -> None:
        example = moved(example_input, next(network.parameters()).device)
        self.sections: FoundSections = trainable(find_sections(network, example, granularity))
        self.pruner: ConcurrentPruner | None = None
        self._forward = Forward(self.sections)
        self._handle = network.register_load_state_dict_pre_hook(self._remove_what_is_absent)

    def start(self, optimizer: Any, state: dict[str, Any] | None, options: dict[str, Any]) -> ConcurrentPruner:
        """The pruner, from here on or from a state. Raises LayerpruneError where the state is of other weights."""
        self._handle.remove()
        alive = state["alive"] if state is not None else [True] * len(self._forward.alive)
        pairs = zip(self.sections.removable, alive, self._forward.alive, strict=True)
        odd = [section.name for section, stays, is_there in pairs if stays and not is_there]
        if odd:
            raise LayerpruneError(
                f"the checkpoint lacks the weights of section '{odd[0]}', which has not been removed: it is of another "
                "model, or was saved without this callback"
            )
        self.pruner = ConcurrentPruner(self.sections.model, self.sections, optimizer, forward=self._forward, **options)
        if state is not None:
            self.pruner.load_state_dict(state)
        return self.pruner

    def left(self) -> dict[str, float]:
        """Sections and multiply-adds of one input that are left, and theta's mean."""
        removed = set(self.pruner.removed)
        gone = sum(section.macs for section in self.sections.removable if section.name in removed)
        theta = self.pruner.theta.values()
        return {
            "sections": float(len(self.sections) - len(removed)),
            "macs": float(self.sections.macs - gone),
            "theta": sum(theta) / len(theta),
        }

    def _remove_what_is_absent(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        own, absent = model.state_dict(), []
        for place, section in enumerate(self.sections.removable):
            keys = [name for name in own if _belongs(name, section)]
            if keys and not any(prefix + name in state for name in keys):
                absent.append(place)
        if absent:
            self._forward.remove(absent)


def _belongs(key: str, section: FoundSection) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in section.owned)
