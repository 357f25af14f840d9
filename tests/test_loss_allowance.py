"""Pruning as far as the validation loss may rise: by made-up losses, and in real trainings on digits."""

import ast
import copy
import math
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from networks import digits
from own_networks import EXAMPLE, own
from test_concurrent_pruner import STEPS, a_pruner, batches, train
from together import run_together
from torch import Tensor, nn
from torch.nn import functional

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.loss_allowance import FARTHEST, LossAllowance
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

# --- by made-up losses ------------------------------------------------------------------------------------------

COSTS = (0.1, 0.4, 0.7, 0.2)


def losses(closed: Collection[int], base: float = 2.0) -> float:
    """Closing a section costs its own share of the loss."""
    return base + sum(COSTS[place] for place in closed)


def an_allowance(allowed: float, loss: Callable[[Collection[int]], float] = losses) -> LossAllowance:
    made = LossAllowance(allowed, loss)
    made.look()
    return made


def test_sections_may_go_together_or_one_by_one_as_far_as_the_loss_allows() -> None:
    allowance, alive = an_allowance(0.65), [1, 1, 1, 1]
    assert allowance.may_go([0, 1], alive) == [0, 1]
    assert allowance.may_go([2, 0, 1, 3], alive) == [0, 1]  # 2 never fits, 3 not besides the others
    assert allowance.may_go([0, 1], [0, 1, 1, 1]) == [1] and allowance.may_go([], alive) == []


def test_rounding_closes_what_theta_would_and_then_as_much_more_as_the_loss_allows() -> None:
    theta, worth, alive = torch.tensor([0.9, 0.3, 0.4, 1.0]), torch.zeros(4), [1, 1, 1, 1]
    assert an_allowance(1.15).rounded(theta, worth, alive).tolist() == [1, 0, 0, 1]
    assert an_allowance(1.25).rounded(theta, worth, alive).tolist() == [0, 0, 0, 1]
    assert an_allowance(0.65).rounded(theta, worth, alive).tolist() == [0, 0, 1, 1]  # both together cost 1.1
    assert an_allowance(0.05).rounded(theta, worth, alive).tolist() == [1, 1, 1, 1]
    assert an_allowance(9.0).rounded(theta, worth, [1, 0, 0, 1]).tolist() == [0, 0, 0, 0]
    worthy = torch.tensor([0.0, 0.0, 0.0, -1.0])  # of equal thetas what is worth least goes first
    assert an_allowance(0.25).rounded(torch.ones(4), worthy, alive).tolist() == [1, 1, 1, 0]


def test_the_reference_is_the_lowest_loss_with_all_open_and_a_creeping_loss_finds_no_room() -> None:
    base = [2.0]
    allowance = an_allowance(0.45, lambda closed: losses(closed, base[0]))
    for now in (1.5, 1.7, math.nan, math.inf):
        base[0] = now
        allowance.look()
        assert allowance.reference == 1.5
        assert allowance.may_go([1], [1, 1, 1, 1]) == ([1] if now == 1.5 else [])  # 1.7 + 0.4 is too much above 1.5


def test_the_price_rises_with_the_room_that_is_left_and_never_runs_away() -> None:
    allowance = an_allowance(0.5)
    every, none = torch.zeros(4), torch.ones(4)
    assert allowance.factor(none) > allowance.factor(torch.tensor([0.0, 1, 1, 1])) > 1 > allowance.factor(every)
    assert allowance.latest == (2.0, pytest.approx(3.4), 2.0)
    for theta, limit in ((none, FARTHEST), (every, 1 / FARTHEST)):
        allowance = an_allowance(0.5)
        assert math.prod(allowance.factor(theta) for _ in range(40)) == pytest.approx(limit)
    broken = an_allowance(0.5, lambda closed: math.nan)
    assert broken.factor(none) < 1 and broken.may_go([0], [1, 1, 1, 1]) == []


# --- in real trainings ------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))


def a_convolutional_network(blocks: int = 5, channels: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    stem, head = nn.Conv2d(1, channels, 5, stride=4, padding=2), nn.Linear(channels, 10)
    return nn.Sequential(stem, *(Block(channels) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def validation_loss(model: nn.Module) -> float:
    data = digits().validation
    with torch.no_grad():
        return float(functional.cross_entropy(model.eval()(data.images.float() / 255), data.labels))


def trained_alone(model: nn.Module, epochs: int) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for x, y in batches():
            functional.cross_entropy(model.train()(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
    return model


@pytest.mark.parametrize(
    ("make", "allowed"), [(a_convolutional_network, 0.6), (own, 0.1)], ids=["each is worth something", "none is"]
)
def test_the_loss_of_what_is_left_has_risen_by_no_more_than_was_allowed(
    make: Callable[[], nn.Module], allowed: float
) -> None:
    model = trained_alone(make(), epochs=6)
    dense = validation_loss(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    pruner = a_pruner(
        model,
        optimizer,
        max_loss_increase=allowed,
        validate=lambda: validation_loss(model),
        total_steps=128,
        theta_lr=0.3,
    )
    assert pruner._budget.reference == dense  # of the network as it was given
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    for part in range(8):
        train(pruner, range(16 * part, 16 * (part + 1)))
        schedule.step()
    left = validation_loss(pruner.export())
    print(dense, pruner._budget.reference, left, pruner.removed)
    assert pruner.removed
    assert left <= pruner._budget.reference + allowed <= dense + allowed


def test_a_loss_without_sections_is_that_of_the_model_that_has_lost_them() -> None:
    model = own(rate=0.0)
    pruner = a_pruner(model, max_loss_increase=0.3, validate=lambda: validation_loss(model))
    closed, all_open = pruner._loss_without({0, 2}), pruner._loss_without(())
    assert all_open == validation_loss(model) and abs(closed - all_open) > 1e-3
    with pruner._forward.without([0, 2]):
        assert validation_loss(model) == pytest.approx(closed, rel=1e-6)
    pruner._forward.remove([1])
    without_all = pruner._loss_without({0, 2})
    pruner._forward.remove([0, 2])
    assert validation_loss(model) == pytest.approx(without_all, rel=1e-6)


def test_a_validation_that_finds_nothing_from_the_beginning_is_refused_and_the_model_left_as_it_was() -> None:
    """As the mean over no batch is: nothing would ever be removed."""
    model = own()
    with pytest.raises(LayerpruneError, match=r"validate\(\) returned nan before training: does it see a batch\?"):
        a_pruner(model, max_loss_increase=0.1, validate=lambda: torch.tensor([]).mean())
    a_pruner(model, max_loss_increase=0.1, validate=lambda: math.inf)  # which training may mend


@pytest.mark.parametrize("later", [5.0, math.nan])
def test_nothing_goes_where_the_loss_forbids_it(later: float) -> None:
    answers = iter([0.0])
    pruner = a_pruner(own(), max_loss_increase=0.1, validate=lambda: next(answers, later), theta_lr=5.0)
    train(pruner, range(STEPS))
    assert pruner.removed == [] and pruner.consolidated and set(pruner.theta.values()) == {1.0}


def test_a_validation_leaves_no_trace_in_the_training() -> None:
    """Neither its random numbers, nor its modes; the model's own draws are those without it."""
    ends = []
    for noisy in (False, True):
        model = own()

        def validate(model: nn.Module = model, noisy: bool = noisy) -> float:
            if noisy:
                torch.rand(7)
                model.train()
                model(batches()[0][0])
            return 0.0

        torch.manual_seed(3)
        pruner = a_pruner(model, max_loss_increase=0.1, validate=validate)
        train(pruner, range(50))
        assert model.training
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_training_goes_on_exactly_with_its_reference() -> None:
    def make() -> ConcurrentPruner:
        model = own(rate=0.0)
        return a_pruner(model, max_loss_increase=0.2, validate=lambda: validation_loss(model), warmup_steps=10)

    whole = make()
    train(whole, range(45))
    states = [copy.deepcopy(each.state_dict()) for each in (whole, whole.model, whole.optimizer)]
    train(whole, range(45, STEPS))
    again = make()
    for part, state in zip((again, again.model, again.optimizer), states, strict=True):
        part.load_state_dict(state)
    train(again, range(45, STEPS))
    assert again.removed == whole.removed and again._budget.state() == whole._budget.state()
    assert again._course == whole._course and again._method.nu == whole._method.nu
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
    assert find_sections(again.export(), batches()[0][0][:2]) if len(again.removed) < 4 else True


# --- in several processes ---------------------------------------------------------------------------------------


def shared(group: ProcessGroup) -> list:
    """Half of every batch for each process, which alone would decide otherwise: the mean of what they find is the loss.

    What was removed, the reference, and theta in the end.
    """
    model = own(rate=0.0)
    trained = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True) if group.size > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    shares = (
        [1.0] if group.size == 1 else [0.0, 2.0]
    )  # to the first nothing costs anything, to the second twice as much
    pruner = ConcurrentPruner(
        trained, find_sections(model, EXAMPLE), optimizer, total_steps=60, max_loss_increase=0.05, check_interval=10,
        warmup_steps=5, theta_lr=0.3, validate=lambda: shares[group.rank] * validation_loss(model),
    )  # fmt: skip
    for step in range(60):
        x, y = (each[group.mine(len(each))] for each in batches()[step % len(batches())])
        functional.cross_entropy(trained.train()(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return [pruner.removed, pruner._budget.reference, list(pruner.theta.values())]


@pytest.mark.long
def test_processes_that_train_together_prune_by_the_mean_of_their_losses(tmp_path: Path) -> None:
    first, second = map(ast.literal_eval, run_together(shared, tmp_path).texts)
    alone = shared(SINGLE_PROCESS)
    assert first == second and first[0] == alone[0] and 0 < len(alone[0]) < 4
    assert first[1] == pytest.approx(alone[1], abs=1e-3)
