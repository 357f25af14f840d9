"""Blocks whose forward method branches on values: the user says what they compute, and that is computed instead."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """What a registered block computes: activation(shortcut(x) + branch(x)); names of its attributes."""

    branch: tuple[str, ...]
    shortcut: str | None
    activation: str | None


_BLOCKS: dict[type[nn.Module], Block] = {}


def register_block(
    kind: type[nn.Module], branch: str | Sequence[str], shortcut: str | None = None, activation: str | None = None
) -> None:
    """Declare that blocks of the class `kind` compute activation(shortcut(x) + branch(x)).

    For blocks whose forward method branches on values, which cannot be followed. `branch` names an attribute of the
    block, or several that are applied one after the other. A shortcut or activation that is not named, or whose
    attribute is None, is the identity.
    """
    _BLOCKS[kind] = Block((branch,) if isinstance(branch, str) else tuple(branch), shortcut, activation)


def use(model: nn.Module) -> None:
    """Let registered blocks of a model compute what was told, from now on."""
    for part in model.modules():
        if type(part) in _BLOCKS:
            part.forward = functools.partial(_compute, part, _BLOCKS[type(part)])


@contextmanager
def used(model: nn.Module) -> Iterator[None]:
    """Let registered blocks of a model compute what was told, for a while."""
    blocks = [part for part in model.modules() if type(part) in _BLOCKS and "forward" not in vars(part)]
    use(model)
    try:
        yield
    finally:
        for part in blocks:
            del part.forward


def _compute(block: nn.Module, told: Block, x: Tensor, *_: Any) -> Tensor:
    out = x
    for name in told.branch:
        out = getattr(block, name)(out)
    shortcut = getattr(block, told.shortcut) if told.shortcut else None
    added = (shortcut(x) if shortcut is not None else x) + out
    return getattr(block, told.activation)(added) if told.activation else added
