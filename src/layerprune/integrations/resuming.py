"""A checkpoint of a network that sections had left, read into the whole network.

Trainers load the model's weights first and make the optimizer afterwards, while a pruner takes sections out of both.
So the whole network stays until there is an optimizer: it keeps its own weights for what the checkpoint lacks.
"""

from typing import Any

from torch import nn

from layerprune.anynet.sections import FoundSection, FoundSections
from layerprune.errors import LayerpruneError


class Absentees:
    """Lets a model's state be loaded without sections that had left; knows which these were."""

    def __init__(self, sections: FoundSections) -> None:
        self._sections = sections
        self.names: list[str] = []
        self._handle = sections.model.register_load_state_dict_pre_hook(self._fill_in)

    def close(self, state: dict[str, Any] | None) -> None:
        """No more weights will be loaded. Raises LayerpruneError where sections were absent from them that had not left
        by the pruner's state."""
        self._handle.remove()
        alive = state["alive"] if state is not None else [True] * len(self._sections.removable)
        pairs = zip(self._sections.removable, alive, strict=True)
        odd = sorted({section.name for section, stays in pairs if stays} & set(self.names))
        if odd:
            raise LayerpruneError(
                f"the checkpoint lacks the weights of section '{odd[0]}', which has not been removed: it is of another "
                "model, or was saved without this callback"
            )

    def _fill_in(self, model: nn.Module, state: dict, prefix: str, *_: object) -> None:
        own = model.state_dict()
        for section in self._sections.removable:
            keys = [name for name in own if _belongs(name, section)]
            if keys and not any(prefix + name in state for name in keys):
                self.names.append(section.name)
                state.update({prefix + name: own[name] for name in keys})


def _belongs(key: str, section: FoundSection) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in section.owned)
