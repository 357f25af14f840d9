"""What comes out of a network's stem and of every element of its chain, reduced at once to what a score needs.

Results are lists (or vectors) over these places: 0 is the stem, i + 1 element i of `model.chain`, removable or not.
The output of a section that is not called, because nothing of it is left, is its predecessor's. Everything stays on
the images' device; the pictures themselves are never kept.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import SettingError


def chain_outputs(
    model: SectionedNetwork, images: Tensor, reduce: Callable[[Tensor], Tensor], start: nn.Module | None = None
) -> list[Tensor]:
    """`reduce(output)` at every place, from one forward pass of the whole network; `start` in place of the stem."""
    reduced: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        reduced[module] = reduce(output)

    places = [start or model.stem, *model.chain]
    handles = [module.register_forward_hook(note) for module in places]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    outputs: list[Tensor] = []
    for module in places:
        outputs.append(reduced[module] if module in reduced else outputs[-1])
    return outputs


def gathered_outputs(
    model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], reduce: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Features [N, D] at every place, `reduce(output)` of all batches, and labels [N], in the batches' order."""
    rows, labels = [], []
    for images, names in batches:
        rows.append(chain_outputs(model, images, reduce))
        labels.append(names)
    return [torch.cat(each) for each in zip(*rows, strict=True)], torch.cat(labels)


def gains(model: SectionedNetwork, values: Tensor) -> Tensor:
    """By how much each removable section [L] exceeds its predecessor in the chain (the first one: the stem)."""
    return values.diff()[_removable(model)]


def _removable(model: SectionedNetwork) -> list[bool]:
    return [section.removable for section in model.chain]


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows 0, 2, 4 ... to learn from and rows 1, 3, 5 ... to be judged by. Raises SettingError for a single row."""
    if len(rows) < 2:
        raise SettingError("settings.sample: one example cannot both fit a classifier and judge it; take two or more")
    return rows[0::2], rows[1::2]


# --- a section's input beside its output --------------------------------------------------------------------------

Pair = Callable[[str, Tensor, Tensor], Tensor]
"""A number for each example [B] from a section's name, its input and its output."""


def mean_over_pairs(model: SectionedNetwork, batches: Iterable[tuple[Tensor, Tensor]], numbers: Pair) -> Tensor:
    """Means [L] of `numbers` over all examples, for every removable section; 0 for one that is gone.

    No more than one section's input is kept at a time.
    """
    sums, count = torch.zeros(len(model.sections), dtype=torch.float64), 0
    for images, _ in batches:
        sums += torch.stack([each.sum() for each in _of_pairs(model, images, numbers)]).cpu()
        count += len(images)
    return sums / count


def _of_pairs(model: SectionedNetwork, images: Tensor, numbers: Pair) -> list[Tensor]:
    found = [images.new_zeros(1, dtype=torch.float64) for _ in model.sections]
    entered: list[Tensor] = []

    def enter(branch: nn.Module, inputs: tuple[Tensor]) -> None:
        entered[:] = [inputs[0]]

    def leave(index: int, section: nn.Module, inputs: Any, output: Tensor) -> None:
        found[index] = numbers(section.name, section.channels_second(entered.pop()), output)

    alive = [(index, section) for index, section in enumerate(model.sections) if section.alive]
    handles = [section.branch.register_forward_pre_hook(enter) for _, section in alive]
    handles += [section.register_forward_hook(partial(leave, index)) for index, section in alive]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found
