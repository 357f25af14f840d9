"""What becomes of a network of the zoo: found, gated, trained, pruned, exported; one row of docs/zoo.md."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library import examples
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import Granularity, find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.library.network_files import program_of
from layerprune.library.recording import tensors_of
from layerprune.library.rewriting import Forward

from .catalog import Animal, built
from .exactness import differences, same, seen


@dataclass
class Row:
    """`gap` is the largest difference between closed gates and the smaller network, relative to the largest output."""

    name: str
    kind: str
    granularity: Granularity = "section"
    sections: int = 0
    removable: int = 0
    pruned: int = 0
    differs: list[str] = field(default_factory=list)
    gap: float = float("nan")
    exported: str = ""
    reason: str = ""


def examine(animal: Animal, others: bool = True, granularity: Granularity | None = None) -> Row:
    """Try everything with a network; LayerpruneErrors become the row's reason, others are raised.

    Where no granularity is given it is "section", and "any" for a network none of whose residual sections may go.
    """
    if granularity is not None:
        return _examined(animal, others, granularity)
    row = _examined(animal, others, "section")
    return row if row.removable else _examined(animal, others, "any")


def _examined(animal: Animal, others: bool, granularity: Granularity) -> Row:
    row, (model, example) = Row(animal.name, animal.kind, granularity), built(animal)
    original = copy.deepcopy(model)
    try:
        found = find_sections(model, example, granularity)
    except LayerpruneError as error:
        row.reason = str(error)
        return row
    row.sections, row.removable = len(found), len(found.removable)
    row.reason = "; ".join(dict.fromkeys(each.reason for each in found if each.reason))
    if not same(model.state_dict(), original.state_dict()):
        row.differs.append("state after find_sections")
    if found.removable:
        _compare(row, model, original, found, [example, *([examples.doubled(example)] if others else [])])
        _prune(row, original, example, granularity)
    return row


def _compare(row: Row, model: nn.Module, original: nn.Module, found: FoundSections, inputs: Sequence[Any]) -> None:
    """Open gates against the original, also in a copy."""
    original = copy.deepcopy(original)
    Forward(found).install()
    copied = copy.deepcopy(model)
    for x in inputs:
        for training in (True, False):
            try:
                expected = seen(original, x, training)
            except (RuntimeError, ValueError):  # a batch that the network itself does not take
                continue
            row.differs += differences(expected, seen(model, x, training))
            row.differs += [f"{name} of a copy" for name in differences(expected, seen(copied, x, training))]


def _prune(row: Row, original: nn.Module, example: Any, granularity: Granularity) -> None:
    """Train with gates for a few steps; close every second section, then remove it."""
    model = copy.deepcopy(original)
    sections = find_sections(model, example, granularity)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    keep = len(sections.removable) // 2
    pruner = ConcurrentPruner(model, sections, optimizer, total_steps=4, target_depth=keep, warmup_steps=0)
    for _ in range(2):
        outputs = [each for each in tensors_of(examples.call(model.train(), example)) if each.requires_grad]
        sum(each.float().square().mean() for each in outputs).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    forward, gone = pruner._forward, list(range(0, len(sections.removable), 2))
    model.eval()
    with torch.no_grad():
        forward.gates.start(None)
        for place in gone:
            forward.values[place] = torch.zeros(1, 1)
        closed = _without_pass_hooks(pruner, example)
        pruner._take_out(gone)
        smaller = forward.plain().eval()
        row.gap = _gap(closed, tensors_of(examples.call(smaller, example)))
    row.pruned = len(gone)
    row.exported = _export(smaller, example)


def _without_pass_hooks(pruner: ConcurrentPruner, example: Any) -> list[Tensor]:
    """The model with the gates as they are, which the pruner would set anew."""
    model = pruner.model
    hooks, model._forward_pre_hooks = model._forward_pre_hooks, type(model._forward_pre_hooks)()
    try:
        return tensors_of(examples.call(model, example))
    finally:
        model._forward_pre_hooks = hooks


def _gap(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    if [each.shape for each in expected] != [each.shape for each in found]:
        return float("inf")
    pairs = [(a.double(), b.double()) for a, b in zip(expected, found, strict=True)]
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs if a.numel())


def _export(smaller: nn.Module, example: Any) -> str:
    if not isinstance(example, Tensor):
        return "-"
    try:
        program_of(smaller, example)
    except LayerpruneError as error:
        return f"no: {error}"
    return "yes"
