"""Which forward pass a checkpoint computes again: there, gates have to be those of that pass.

Autograd numbers the nodes of graphs in the order in which they are made, so the nodes of a forward pass have a range
of numbers of their own. A checkpoint computes a part of a pass again while one of its nodes is differentiated, and the
number of that node tells the pass, whichever passes came later and in whatever order they are differentiated.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import CheckpointFunction

from layerprune.errors import LayerpruneError

LONGEST = 1000
"""Passes that are kept if `step` is not called, such as those of an evaluation with gradients."""


@dataclass(frozen=True)
class Pass:
    """A forward pass with its gates; `first` and `last` are numbers of nodes, `step` is the step that it was in."""

    first: int
    last: int
    gates: list[Any]
    step: int


class Passes:
    """The forward passes of a model that may be differentiated: those of this step and of the one before."""

    def __init__(self) -> None:
        self._kept: list[Pass] = []
        self._step = 0
        self._forgotten = -1  # the last number of those that are not kept

    def add(self, first: int, gates: Sequence[Any]) -> None:
        """The pass that has just ended, and has begun at the number `first`."""
        self._kept.append(Pass(first, torch.autograd._get_sequence_nr() - 1, list(gates), self._step))
        if len(self._kept) > LONGEST:
            self._keep(self._kept[1:])

    def step(self) -> None:
        self._keep([each for each in self._kept if each.step == self._step])
        self._step += 1

    def forget(self) -> None:
        """Sections have left the model: no pass from before can be computed again."""
        self._keep([])

    def _keep(self, kept: list[Pass]) -> None:
        gone = self._kept[: len(self._kept) - len(kept)]
        self._forgotten = max([self._forgotten, *(each.last for each in gone)])
        self._kept = kept

    def of_part(self) -> list[Any] | None:
        """The gates of the pass of which a part is computed again; None where nothing of a pass is."""
        number = node_computed_again()
        if number is None:
            return None
        found = self._around(number)
        return found[0].gates if found else None

    def of_call(self) -> list[Any]:
        """The gates of the pass that a checkpoint around the model computes again.

        A checkpoint may hold more than the model, and the node may lie outside of the pass. Then all passes of this
        step have to have the same gates, as a single one has.
        """
        found = self._around(node_computed_again()) or self._alike([each for each in self._kept if self._is_new(each)])
        if not found:
            raise _unknown()
        return found[0].gates

    def _is_new(self, each: Pass) -> bool:
        return each.step == self._step

    def _around(self, number: int) -> list[Pass]:
        found = [each for each in self._kept if each.first <= number <= each.last]
        if not found and number <= self._forgotten:
            raise LayerpruneError(
                "ConcurrentPruner: a checkpoint computes a forward pass again whose gates are no longer known: call "
                f"backward() before step(), and after at most {LONGEST} forward passes"
            )
        if found and not self._alike(found):
            raise _unknown()
        return found

    @staticmethod
    def _alike(passes: list[Pass]) -> list[Pass]:
        """All of them if they have the same gates, else none."""
        return passes if all(_are_equal(passes[0].gates, each.gates) for each in passes[1:]) else []


def _are_equal(some: list[Any], others: list[Any]) -> bool:
    return all(
        one is other or (isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other))
        for one, other in zip(some, others, strict=True)
    )


def _unknown() -> LayerpruneError:
    return LayerpruneError(
        "ConcurrentPruner: which of several forward passes a checkpoint computes again cannot be known: put it around "
        "the model alone, once for each call, or around parts of the model, and call the model in one thread"
    )


def is_calling_again() -> bool:
    """Whether the model is called by a checkpoint in a backward pass."""
    return node_computed_again() is not None


def first_node() -> int | None:
    """The number from which on nodes belong to the pass that begins; None if it cannot be differentiated.

    A checkpoint with use_reentrant=True runs its forward pass without gradients and has a single node, made before.
    """
    node = _outermost(CheckpointFunction.forward, "ctx")
    if node is not None:
        return node._sequence_nr()
    return torch.autograd._get_sequence_nr() if torch.is_grad_enabled() else None


def unseen_by_checkpoints() -> AbstractContextManager[Any]:
    """For what is computed in a forward pass and not again: a checkpoint around counts the tensors that are saved."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is None or hooks[0].__module__ != CheckpointFunction.__module__:
        return nullcontext()  # such as torch.autograd.graph.save_on_cpu
    return saved_tensors_hooks(Tensor.detach, Tensor.detach)


def node_computed_again() -> int | None:
    """The number of the node for whose sake something is computed in a backward pass; None in a forward pass.

    Checkpoints within others run backward passes of their own, of what they have just computed again. Its nodes belong
    to no forward pass, and may have numbers of another thread, so that the outermost backward pass counts.
    """
    node = torch._C._current_autograd_node()
    if node is None or node.name() == "torch::autograd::AccumulateGrad":  # hooks of tensors may call anything
        return None
    return (_outermost(BackwardCFunction.apply, "self") or node)._sequence_nr()


def _outermost(function: Any, name: str) -> Any:
    """The argument of that name in the outermost call of a function that is running in this thread."""
    found, frame = None, sys._getframe()
    while frame is not None:
        if frame.f_code is function.__code__:
            found = frame.f_locals[name]
        frame = frame.f_back
    return found
