"""With open gates a network in the pruner's hands is exactly what it was; what is left is what closed gates gave.

Bit for bit, over networks with all that forward methods do: outputs for batches of several sizes, gradients, buffers,
attributes, hooks, random draws, in training and in evaluation.
"""

import copy
import io
from types import FunctionType
from typing import Any

import pytest
import torch
from feature_networks import FEATURES, WAYS, Features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.library.recording import instruction, tensors_of
from layerprune.library.rewriting import Forward

EXAMPLE = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def made(ways: tuple[str, ...], features: frozenset[str]) -> nn.Module:
    torch.manual_seed(0)
    return Features(ways, features)


def seen(model: nn.Module, x: Any, training: bool) -> list[Any]:
    """All that a pass leaves: outputs, gradients, buffers, attributes, calls of hooks, and the next random number."""
    calls: list[str] = []
    handles = [
        each.register_forward_hook(lambda module, inputs, output, name=name: calls.append(name))
        for name, each in model.named_modules()
    ]
    model.train(training).zero_grad()
    torch.manual_seed(1)
    outputs = tensors_of(model(x))
    if training:
        sum(each.float().square().sum() for each in outputs).backward()
    for handle in handles:
        handle.remove()
    gradients = [(name, each.grad) for name, each in model.named_parameters()]
    kept = [getattr(model, "last", None)]
    return [*outputs, *gradients, *model.named_buffers(), *kept, calls, torch.rand(1)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_exact(model: nn.Module, example: Tensor, others: list[Tensor]) -> FoundSections:
    """The model with open gates against a copy of what it was; and its own copy."""
    original = copy.deepcopy(model)
    found = find_sections(model, example)
    assert same([*model.state_dict().items()], [*original.state_dict().items()])
    Forward(found).install()
    copied = copy.deepcopy(model)
    for x in (example, *others):
        for training in (True, False):
            expected = seen(original, x, training)
            assert same(seen(model, x, training), expected)
            assert same(seen(copied, x, training), expected)
    return found


def assert_removal_is_closing(found: FoundSections, x: Tensor) -> None:
    """Of every second section; the smaller network can be pickled and found again."""
    model, forward = found.model.eval(), Forward(found)
    forward.install()
    gone = list(range(0, len(forward.alive), 2))
    for place in gone:
        forward.values[place] = torch.zeros(1, 1)
    closed = tensors_of(model(x))
    forward.values[:] = [None] * len(forward.alive)
    forward.remove(gone)
    torch.testing.assert_close(tensors_of(model(x)), closed, atol=1e-5, rtol=1e-4)
    plain = forward.plain()
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    for each in (plain, again):
        torch.testing.assert_close(tensors_of(each(x)), closed, atol=1e-5, rtol=1e-4)
    if len(gone) < len(forward.alive):
        assert len(find_sections(again, x).removable) == len(forward.alive) - len(gone)


@pytest.mark.parametrize("way", WAYS)
def test_a_block_is_gated_exactly_however_its_sum_is_written(way: str) -> None:
    found = assert_exact(made((way, way), frozenset()), EXAMPLE, [EXAMPLE[:2]])
    assert [section.reason for section in found] == ["", ""]
    assert_removal_is_closing(found, EXAMPLE)


@pytest.mark.parametrize("feature", FEATURES)
def test_what_a_forward_method_does_besides_stays(feature: str) -> None:
    found = assert_exact(made(("module", "function"), frozenset({feature})), EXAMPLE, [EXAMPLE.repeat(2, 1)])
    assert len(found.removable) == len(found) == (4 if feature == "loop" else 2)
    assert_removal_is_closing(found, EXAMPLE)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(WAYS), min_size=1, max_size=3), st.frozensets(st.sampled_from(FEATURES), max_size=4))
def test_any_mixture_is_exact(ways: list[str], features: frozenset[str]) -> None:
    found = assert_exact(made(tuple(ways), features), EXAMPLE, [EXAMPLE[:2], EXAMPLE.repeat(2, 1)])
    assert len(found.removable) == len(ways) + 2 * ("loop" in features)
    assert_removal_is_closing(found, EXAMPLE)


def test_a_gate_of_its_own_for_each_example_multiplies_what_is_added() -> None:
    """Also where the sum is computed again in the backward pass, by a checkpoint."""
    gate = torch.tensor([[1.0], [0.0], [1.0]])
    for way in WAYS:
        model = made((way,), frozenset()).eval()
        forward = Forward(find_sections(model, EXAMPLE))
        opened = model(EXAMPLE)
        forward.install()
        forward.values[0] = torch.zeros(1, 1)
        closed = model(EXAMPLE)
        forward.values[0] = gate
        torch.testing.assert_close(model(EXAMPLE), torch.where(gate > 0, opened, closed))


def trained(model: nn.Module, steps: int, **options: Any) -> ConcurrentPruner:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    values = {"total_steps": steps, "target_depth": 1, "check_interval": 1, "theta_lr": 1.0} | options
    pruner = ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, **values)
    for _ in range(steps):
        optimizer.zero_grad()
        model.train()(EXAMPLE).square().mean().backward()
        optimizer.step()
        pruner.step()
    return pruner


def test_averages_follow_removals_and_copies_are_open() -> None:
    model = made(("module", "function", "in_place"), frozenset())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pruner = ConcurrentPruner(
        model, find_sections(model, EXAMPLE), optimizer, total_steps=20, target_depth=1, check_interval=1
    )
    average = AveragedModel(model)
    for step in range(20):
        model.train()(EXAMPLE).square().mean().backward()
        copied = copy.deepcopy(model).eval()
        optimizer.step()
        pruner.step()
        average.update_parameters(model)
        if step == 3:
            fresh = made(("module", "function", "in_place"), frozenset()).eval()
            fresh.load_state_dict(copied.state_dict())
            assert torch.equal(fresh(EXAMPLE[:2]), copied(EXAMPLE[:2]))
    assert len(pruner.removed) == 2
    assert average.module.state_dict().keys() == pruner.export().state_dict().keys()
    average.eval()(EXAMPLE[:1])


def test_parts_called_on_their_own_are_not_gated_and_hooks_are_called() -> None:
    model = made(("function", "function"), frozenset())
    trained(model, 3, target_depth=2, warmup_steps=0)
    calls: list[int] = []
    model.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    model(EXAMPLE)
    assert calls == [1]
    block = model.blocks[0].eval()
    x = torch.randn(7, 8)
    assert torch.equal(block(x), x + torch.tanh(block.first(x)))


def test_what_was_pruned_trains_on_with_its_dropout() -> None:
    plain = trained(made(("function", "function"), frozenset()), 10).export().train()
    assert not torch.equal(plain(EXAMPLE), plain(EXAMPLE))
    assert torch.equal(plain.eval()(EXAMPLE), plain(EXAMPLE))


def test_an_expression_is_the_same_place_however_often_it_was_met() -> None:
    """Python calls by other instructions once it knows what is called."""

    class Telling:
        def __radd__(self, other: Any) -> Any:
            return instruction(2)

    def met() -> Any:
        return sum([Telling()])

    cold = FunctionType(met.__code__.replace(), globals(), closure=met.__closure__)
    places = {str(cold()[1]) for _ in range(100)}
    assert len(places) == 1
