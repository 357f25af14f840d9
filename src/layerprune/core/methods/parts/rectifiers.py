"""What the rectifiers inside branches are given.

A rectifier is an activation that lets positive values pass and holds negative ones back. One that is called several
times, or that stands behind the addition too, as in torchvision's ResNets, counts as often as it is called while a
branch is computed, and only then.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from layerprune.core.networks.sections import SectionedNetwork

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Hardswish)


@contextmanager
def watching(model: SectionedNetwork, look: Callable[[int, nn.Module, Tensor], None]) -> Iterator[None]:
    """Calls `look(index, rectifier, input)` at every rectifier in the branch of section `index`, in order."""
    inside: list[int] = []

    def enter(index: int) -> Callable[..., None]:
        return lambda branch, inputs: inside.append(index)

    def leave(branch: nn.Module, inputs: Any, output: Tensor) -> None:
        inside.pop()

    def note(rectifier: nn.Module, inputs: tuple[Tensor]) -> None:
        if inside:
            look(inside[-1], rectifier, inputs[0])

    rectifiers = {layer for section in model.sections for layer in rectifiers_of(section.branch)}
    handles = [layer.register_forward_pre_hook(note) for layer in rectifiers]
    for index, section in enumerate(model.sections):
        handles.append(section.branch.register_forward_pre_hook(enter(index)))
        handles.append(section.branch.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rectifiers_of(branch: nn.Module) -> list[nn.Module]:
    """The rectifiers of a branch, each once."""
    return [layer for layer in branch.modules() if isinstance(layer, RECTIFIERS)]
