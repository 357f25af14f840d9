"""Peak memory of forward passes, by hand and by torch's allocator; budgets in memory and in parameters."""

import copy

import pytest
import torch
from networks import source
from own_networks import EXAMPLE, own
from test_concurrent_pruner import a_pruner, train
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections
from layerprune.library.memory import MemoryBudget, peak_memory, section_memory

FLOAT = 4


def bytes_of(model: nn.Module) -> int:
    return FLOAT * sum(each.numel() for each in model.parameters())


def test_the_peak_of_a_chain_is_where_two_of_its_widest_tensors_meet() -> None:
    model = nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 4))
    x = torch.zeros(3, 8)
    assert peak_memory(model, x) == bytes_of(model) + FLOAT * (3 * 8 + 2 * 3 * 50)
    model[1].inplace = True
    assert peak_memory(model, x) == bytes_of(model) + FLOAT * (3 * 8 + 3 * 50 + 3 * 4)


class Held(nn.Module):
    """What comes in is held until the addition; the transposed tensor and the slice hold nothing of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.back = nn.Linear(6, 10), nn.Linear(10, 40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.back(self.wide(x).t().t())[:]


def test_memory_that_tensors_share_counts_once_and_shortcuts_are_held() -> None:
    model, x = Held(), torch.zeros(500, 6)[:5]
    # While `back` ends: the input, the stem's output, the wide tensor and the branch's end.
    assert peak_memory(model, x) == bytes_of(model) + FLOAT * 5 * (6 + 10 + 40 + 10)


def test_shared_weights_and_buffers_are_held_once_and_the_model_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).train()
    model[2].weight = model[0].weight
    before = copy.deepcopy(model.state_dict())
    buffers = sum(each.numel() * each.element_size() for each in model.buffers())
    least = bytes_of(model) + buffers
    assert least < peak_memory(model, torch.zeros(2, 4)) <= least + FLOAT * 2 * 4 * 4
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def allocated(model: nn.Module, x: Tensor) -> int:
    """The peak by what torch's allocator reports of each allocation."""
    with torch.no_grad(), torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        model(x)
    sizes = [each.nbytes() for each in profile.profiler.kineto_results.events() if each.name() == "[memory]"]
    now, most = 0, 0
    for size in sizes:
        now += size
        most = max(most, now)
    return most


def test_the_allocator_agrees() -> None:
    model, x = own(rate=0.0).eval(), torch.randn(64, 1, 28, 28, generator=source(0))
    own_tensors = peak_memory(model, x) - bytes_of(model) - FLOAT * x.numel()
    assert own_tensors == allocated(model, x)


# --- budgets ----------------------------------------------------------------------------------------------------


def with_wide_blocks() -> nn.Module:
    """Its second and fourth block make the largest tensors; weights are small beside them for a batch of 2,000."""
    model = own(rate=0.0)
    for place in (1, 3):
        model.blocks[place].first, model.blocks[place].second = nn.Linear(32, 200), nn.Linear(200, 32)
    return model


BATCH = torch.zeros(2000, 1, 28, 28)


def test_what_does_not_make_the_peak_stays_under_a_budget_in_memory() -> None:
    model = with_wide_blocks()
    sections = find_sections(model, BATCH)
    whole = peak_memory(model, BATCH)
    narrow = own(rate=0.0)
    share = (peak_memory(narrow, BATCH) + 10_000) / whole  # room for the narrow blocks alone
    pruner = a_pruner(model, sections=sections, target_memory=share)
    costs = pruner._memory.sections
    assert min(costs[1], costs[3]) > 3 * max(costs[0], costs[2])
    train(pruner, range(120))
    assert pruner.removed == ["blocks.1", "blocks.3"]
    assert peak_memory(pruner.export(), BATCH) <= share * whole


def test_a_budget_in_memory_is_met_where_removing_one_section_of_two_does_not_help() -> None:
    peaks = {frozenset(): 100, frozenset({0}): 100, frozenset({1}): 98, frozenset({0, 1}): 40}
    memory = section_memory([True, True], lambda places: peaks[frozenset(places)])
    assert (memory.whole, memory.none, sum(memory.sections)) == (100, 40, pytest.approx(60))
    tight, roomy = (MemoryBudget(allowed, memory, lambda places: peaks[frozenset(places)]) for allowed in (60, 99))
    theta, worth = torch.tensor([0.2, 0.9]), torch.zeros(2)
    assert tight.rounded(theta, worth, [1, 1]).tolist() == [0.0, 0.0]
    assert roomy.rounded(theta, worth, [1, 1]).tolist() == [1.0, 0.0]  # the second by itself would take 100
    assert tight.may_go([1, 0], [1, 1]) == [1, 0] and roomy.may_go([1, 0], [1, 1]) == [1]
    assert tight.factor(torch.ones(2)) > 1 > tight.factor(torch.zeros(2))


@pytest.mark.parametrize("as_number", [False, True], ids=["share", "number"])
def test_as_many_parameters_are_left_as_asked(as_number: bool) -> None:
    model = with_wide_blocks()
    whole = sum(each.numel() for each in model.parameters())
    largest = sum(each.numel() for each in model.blocks[1].parameters())
    pruner = a_pruner(model, target_params=round(0.6 * whole) if as_number else 0.6)
    train(pruner, range(120))
    left = sum(each.numel() for each in pruner.export().parameters())
    assert pruner.removed and abs(left - 0.6 * whole) <= largest / 2


@pytest.mark.parametrize("options", [{"target_memory": 0.97}, {"target_params": 0.9}, {"nu": 0.1, "cost": "memory"}])
def test_a_budget_survives_a_resume_of_a_model_that_has_lost_sections(options: dict) -> None:
    pruner = a_pruner(own(rate=0.0), **options)
    train(pruner, range(10))
    state = pruner.state_dict()
    again = a_pruner(own(rate=0.0), **options)
    again._memory = None if again._memory is None else type(again._memory)(1, 0, (1.0,) * 4)  # another machine's
    again.load_state_dict(state)
    assert again._memory == pruner._memory and torch.equal(again._method.prices, pruner._method.prices)
    if again._budget is not None:
        assert (again._budget.allowed, again._budget.costs) == (pruner._budget.allowed, pruner._budget.costs)


def test_a_budget_below_what_always_stays_is_refused() -> None:
    with pytest.raises(LayerpruneError, match=r"target_memory: 0.5 of the peak memory is less than .* \(0\.760\)"):
        a_pruner(own(), target_memory=0.5)
    assert find_sections(own(), EXAMPLE).removable
