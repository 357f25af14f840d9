"""Gates on a model's sections: forward hooks on the modules that end branches, or calls in the code of additions.

A gate that is open hands on the very tensor that it got. Copies of a model have gates of their own, which are open
for good, and lose the sections that the model loses.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library.caches import follow
from layerprune.library.code_gates import GATES, Wrap, gated_function, gated_method
from layerprune.library.hooks import OfPruner
from layerprune.library.passages import Passage
from layerprune.library.places import FIRST, Argument, Place
from layerprune.library.recomputation import Passes, is_calling_again
from layerprune.library.removal import hand_on, take_out
from layerprune.library.what_goes import Absence

MARK = "_layerprune"
GateValue = Tensor | Callable[[Tensor], Tensor] | None
"""Of one section in one forward pass: [B, 1] or [1, 1], or what makes one of the branch's output; None: open."""


@dataclass(frozen=True)
class Gateway:
    """Where a section's branch can be gated: the output of a module, or an operand in a method's code.

    `path` is the module's, `leaf` the place of the branch's end in its output; `method` and `wrap` say which
    operand in which method of it, met for the `turn`-th time in a call. `batch` is the dimension of the examples, each
    of which has several places in a row there if it is `spread`. A whole block has `given`: the argument that it hands
    on when it is closed; of a run of modules the one at `start` gets it.
    """

    path: str
    batch: int
    leaf: Place = FIRST
    method: str | None = None
    wrap: Wrap | None = None
    turn: int = 0
    spread: bool = False
    given: Argument | None = None
    start: str | None = None


class Gates:
    """What the gates of one model are: None for open ones; `passes` knows what they were, for checkpoints."""

    def __init__(self, model: nn.Module | None = None, count: int = 0) -> None:
        self._model = weakref.ref(model) if model is not None else lambda: None
        self.values: list[GateValue] = [None] * count
        self.passes = Passes()
        self._first: int | None = None
        self.is_copy = model is None
        self.are_asked = False
        """Whether a section has met a gate that was drawn in this step of training; compiled code does not say."""
        self._copies: weakref.WeakSet[Gates] = weakref.WeakSet()
        self.gated: dict[int, weakref.ref[nn.Module]] = {}
        """The module that each gate is on."""

    def lost(self) -> list[int]:
        """Places whose gate is on a module that has left the model, as where another has taken its place."""
        parts = {id(each) for each in self.model.modules()} if self.model is not None else set()
        return [place for place, module in self.gated.items() if id(module()) not in parts]

    @property
    def model(self) -> nn.Module | None:
        return self._model()

    def apply(self, place: int, batch: int, spread: bool, out: Any, given: Tensor | None = None) -> Any:
        value = self._value(place)
        if value is None or not isinstance(out, Tensor):
            return out
        if not isinstance(value, Tensor):
            value = value(out)
        if len(value) > 1 and (spread or out.shape[batch] not in (1, len(value))):
            if not spread or out.shape[batch] % len(value):
                raise LayerpruneError(
                    f"ConcurrentPruner: a section adds {out.shape[batch]} rows for {len(value)} examples: nothing "
                    "tells which row is whose: give batches padded to one length"
                )
            value = value.repeat_interleave(out.shape[batch] // len(value), 0)
        shape = [1] * out.dim()
        shape[batch] = -1
        value = value.to(out).view(shape)
        return out * value if given is None else out * value + given.to(out) * (1 - value)

    def _value(self, place: int) -> GateValue:
        if self.values and not torch.compiler.is_compiling():
            again = self.passes.of_part()
            if again is not None:
                return again[place]
            value = self.values[place]
            self.are_asked |= isinstance(value, Tensor) and value.requires_grad
        return self.values[place] if self.values else None

    def start(self, values: Tensor | Sequence[GateValue] | None, first: int | None = None) -> None:
        """A forward pass with gates [L, B, 1], or a value for each section; None for open ones.

        `first` is that of recomputation.first_node, if checkpoints may compute the pass again.
        """
        self.values[:] = [None] * len(self.values) if values is None else list(values)
        self._first = first

    def repeat(self) -> None:
        """A checkpoint calls the model again: the gates are those of that pass."""
        self.start(self.passes.of_call())

    def stop(self) -> None:
        """The forward pass has ended."""
        if self._first is not None:
            self.passes.add(self._first, self.values)
        self.start(None)

    def step(self) -> None:
        """The training step has ended, and with it a pass that was interrupted."""
        self.start(None)
        self.are_asked = False
        self.passes.step()

    def take_out(self, absences: Sequence[Absence], passages: Sequence[Passage]) -> None:
        """Take sections, and then blocks that have none left, out of the model and of its copies."""
        if self.model is not None:
            take_out(self.model, absences)
            hand_on(self.model, passages)
            follow(self.model)
        self.passes.forget()
        for each in self._copies:
            each.take_out(absences, passages)

    def __deepcopy__(self, memo: dict) -> "Gates":
        copied = Gates()
        own = memo.get(id(self.model)) if self.model is not None else None
        if own is not None:
            copied._model = weakref.ref(own)
        self._copies.add(copied)
        memo[id(self)] = copied
        return copied

    def __reduce__(self) -> tuple:
        return Gates, ()


class Gate(OfPruner):
    """A forward hook that multiplies the output of a module."""

    def __init__(self, gates: Gates, place: int, gateway: Gateway) -> None:
        self.gates, self.place, self.leaf, self.batch = gates, place, gateway.leaf, gateway.batch
        self.spread, self.given, self.is_run = gateway.spread, gateway.given, gateway.start is not None
        self.run = f"'{gateway.start}' and '{gateway.path}'"
        self.entered: Tensor | None = None
        """What the first module of a run has got, until the last one returns."""

    def enter(self, inputs: tuple, named: dict) -> None:
        self.entered = self.given.of(inputs, named)

    def _given(self, inputs: tuple, named: dict) -> Tensor | None:
        if not self.is_run:
            return None if self.given is None else self.given.of(inputs, named)
        entered, self.entered = self.entered, None
        return entered

    def __call__(self, module: nn.Module, inputs: tuple, named: dict, output: Any) -> Any:
        given = self._given(inputs, named)
        if not self.gates.values:  # those of a copy are open for good
            return output
        if isinstance(output, Tensor):
            return self._gated(output, given)
        return self.leaf.changed(output, lambda out: self._gated(out, given))

    def _gated(self, out: Any, given: Tensor | None) -> Any:
        gated = self.gates.apply(self.place, self.batch, self.spread, out, given)
        if gated is not out and given is None and self.is_run:
            raise LayerpruneError(
                f"ConcurrentPruner: a checkpoint begins between {self.run}, inside of a section: begin it before"
            )
        return gated

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"entered": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.given is not None and not isinstance(self.given, Argument):  # pickles of before have numbers
            self.given = Argument(self.given)
        self.leaf = self.leaf if isinstance(self.leaf, Place) else Place(self.leaf)


class Entrance(OfPruner):
    """A hook on the first module of a run, for the gate on the last one."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, module: nn.Module, inputs: tuple, named: dict) -> None:
        self.gate.enter(inputs, named)


_BEGUN_AGAIN = "begun again"
"""At the end of the turns of a call that a checkpoint makes again."""


class CodeGates:
    """What a module's changed method asks; by the number of an operand and how often it was met in this call."""

    def __init__(self, gates: Gates, table: list[dict[int, tuple[int, int, bool]]], wraps: Sequence[Wrap]) -> None:
        self.gates, self.table = gates, table
        self._functions = [gated_function(each) if each.in_function else None for each in wraps]

    def at(self, number: int, turns: list[int], out: Any) -> Any:
        turn = turns[number]
        turns[number] = turn + 1
        found = self.table[number].get(turn)
        return out if found is None else self.gates.apply(*found, out)

    def within(self, number: int, turns: list[Any], out: Any) -> Any:
        """The same in a function within the method, which a checkpoint may compute again without the method."""
        again = is_calling_again()
        if not turns[number] and again:
            turns.append(_BEGUN_AGAIN)
        if again and turns[number] == 1 and turns[-1] is not _BEGUN_AGAIN:
            return self.at(number, [0] * len(turns), out)  # its only turn
        return self.at(number, turns, out)

    def function(self, number: int, turns: list[int], called: Any) -> Any:
        """The function that adds, with a gate on what it adds."""
        return self._functions[number](called, partial(self.at, number, turns))


def attach(model: nn.Module, gates: Gates, gateways: Sequence[Gateway | None]) -> None:
    """Put gates on a model; their places are those of the gateways. None for sections that have gone.

    Raises LayerpruneError, before anything has changed, where a method that gates go into was replaced on the module.
    """
    there = {place: each for place, each in enumerate(gateways) if each is not None}
    for each in there.values():
        _check_own(_part(model, each.path), each)
    detach(model)
    gates.gated = {place: weakref.ref(model.get_submodule(each.path)) for place, each in there.items()}
    for place, each in there.items():
        if each.method is None:
            _attach_hooks(model, Gate(gates, place, each), each)
    for path in dict.fromkeys(each.path for each in there.values() if each.method is not None):
        _attach_in_code(model.get_submodule(path), gates, path, there)
    vars(model)[MARK] = gates


def _attach_hooks(model: nn.Module, gate: Gate, gateway: Gateway) -> None:
    model.get_submodule(gateway.path).register_forward_hook(gate, with_kwargs=True)
    if gateway.start is not None:
        model.get_submodule(gateway.start).register_forward_pre_hook(Entrance(gate), with_kwargs=True)


def _attach_in_code(module: nn.Module, gates: Gates, path: str, gateways: dict[int, Gateway]) -> None:
    own = {place: each for place, each in gateways.items() if each.path == path and each.method is not None}
    wraps = list(first := {_key(each): each.wrap for each in own.values()})
    table: list[dict[int, tuple[int, int, bool]]] = [{} for _ in wraps]
    for place, each in own.items():
        table[wraps.index(_key(each))][each.turn] = (place, each.batch, each.spread)
    vars(module)[GATES] = CodeGates(gates, table, list(first.values()))
    for method in dict.fromkeys(each.method for each in own.values()):
        changed = gated_method(
            module, method, [(wraps.index(_key(each)), each.wrap) for each in own.values() if each.method == method]
        )
        vars(module)[method] = changed


def _part(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise LayerpruneError(
            f"ConcurrentPruner: the model has no '{path}' any more: call find_sections after the last change to it"
        ) from None


def _check_own(module: nn.Module, gateway: Gateway) -> None:
    """The code that gates go into is that of the class: another method on the module would be lost."""
    own = vars(module).get(gateway.method) if gateway.method is not None else None
    if own is not None and not getattr(own, "_is_gated", False):
        where = f"'{gateway.path}'" if gateway.path else "the model"
        raise LayerpruneError(
            f"ConcurrentPruner: {gateway.method} of {where} was replaced (as accelerate does where it prepares a model "
            "for mixed precision), and gates have to go into the code of its class: create the pruner before that"
        )


def _key(gateway: Gateway) -> tuple:
    return gateway.method, gateway.wrap.place


def detach(model: nn.Module) -> None:
    """Take all gates off a model or its copy."""
    for part in model.modules():
        for hooks, kinds in _hooks_of(part):
            for key in [key for key, hook in hooks.items() if isinstance(hook, OfPruner)]:
                for kind in (hooks, *kinds):
                    kind.pop(key, None)
        if vars(part).pop(GATES, None) is not None:
            for name in [name for name, value in vars(part).items() if getattr(value, "_is_gated", False)]:
                del vars(part)[name]
        vars(part).pop(MARK, None)


def _hooks_of(part: nn.Module) -> list[tuple[dict, tuple[dict, ...]]]:
    before = part._forward_pre_hooks, (part._forward_pre_hooks_with_kwargs,)
    behind = part._forward_hooks, (part._forward_hooks_with_kwargs, part._forward_hooks_always_called)
    return [before, behind]


def gates_of(model: nn.Module) -> Gates | None:
    """The gates of a pruner on this very model, not those of a copy."""
    found = vars(model).get(MARK)
    return found if found is not None and not found.is_copy else None


def has_gates(model: nn.Module) -> bool:
    """Whether a pruner works on it or has gates on a part of it; a copy's are open for good, and do not count."""
    return gates_of(model) is not None or any(
        not gates.is_copy for part in model.modules() for gates in _gates_on(part)
    )


def _gates_on(part: nn.Module) -> list[Gates]:
    hooks = [hook.gates for hook in part._forward_hooks.values() if isinstance(hook, Gate)]
    found = vars(part).get(GATES)
    return hooks if found is None else [*hooks, found.gates]
