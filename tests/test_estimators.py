"""Estimators of Delta_l = E[C | xi_l = 1] - E[C | xi_l = 0] against the enumeration of all subnetworks."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from networks import a_context, digits, images, make, no_losses, source
from torch import Tensor
from torch.nn import functional

from layerprune.core.gates.estimators import (
    ESTIMATORS,
    Estimator,
    FiniteDifference,
    TwoSided,
    antithetic_gates,
    bernoulli_gates,
)
from layerprune.core.methods.trained.gated import Method
from layerprune.core.networks.sections import SectionedNetwork, mask_gates
from layerprune.core.settings import GatedSettings

SECTIONS = 5
BATCH = 100
THETAS = (0.2, 0.5, 0.9)


@dataclass(frozen=True)
class SmallNetwork:
    """A gated network that has learnt a little, one batch, and the loss of every subnetwork on it."""

    network: SectionedNetwork
    x: Tensor
    y: Tensor
    loss_of: dict[tuple[int, ...], float]

    def losses(self, gates: Tensor) -> Tensor:
        return functional.cross_entropy(self.network(self.x, gates), self.y, reduction="none")

    def truth(self, theta: list[float]) -> Tensor:
        """Delta [L] by enumeration."""
        delta = []
        for section in range(SECTIONS):
            sides = [0.0, 0.0]
            for keep, loss in self.loss_of.items():
                others = [
                    p if bit else 1 - p for i, (bit, p) in enumerate(zip(keep, theta, strict=True)) if i != section
                ]
                sides[keep[section]] += loss * math.prod(others)
            delta.append(sides[1] - sides[0])
        return torch.tensor(delta)

    def observe(self, estimator: Estimator, theta: Tensor, steps: int, noise: torch.Generator) -> Tensor:
        """The estimator's Delta [L] after so many draws with fixed weights."""
        for _ in range(steps):
            gates = estimator.draw(theta, BATCH, noise)
            with torch.no_grad():
                if estimator.extra_forwards:  # these never look at the slopes
                    estimator.update(theta, gates, torch.empty(0), self.losses(gates), self.losses)
                    continue
            losses = self.losses(gates.requires_grad_())
            (slopes,) = torch.autograd.grad(losses.sum(), gates)
            estimator.update(theta, gates.detach(), slopes.squeeze(2), losses.detach(), no_losses)
        return estimator.delta()


@pytest.fixture(scope="module")
def small() -> SmallNetwork:
    network = make(f"mlp-residual-{SECTIONS}", shape=(1, 7, 7))
    train = digits().train
    pixels = functional.avg_pool2d(train.images.float() / 127 - 1, 4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    noise = source(2)
    for step in range(120):
        part = slice(64 * step % 1152, 64 * step % 1152 + 64)
        gates = bernoulli_gates(torch.full((SECTIONS,), 0.5), 64, noise)
        loss = functional.cross_entropy(network(pixels[part], gates[:, : len(pixels[part])]), train.labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    x, y = pixels[:BATCH], train.labels[:BATCH]
    keeps = itertools.product((0, 1), repeat=SECTIONS)
    loss_of = {keep: float(functional.cross_entropy(network(x, mask_gates(keep)), y)) for keep in keeps}
    return SmallNetwork(network, x, y, loss_of)


def estimator(name: str, decay: float = 1.0, batch: int = BATCH) -> Estimator:
    return ESTIMATORS[name](SECTIONS, batch, decay, 4.0, torch.device("cpu"))


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("name", ["finite_difference", "disarm"])
def test_two_pass_estimators_are_unbiased(small: SmallNetwork, name: str, theta: float) -> None:
    """The mean of sixteen estimates lies within six standard errors, which are small beside the truth."""
    noise = source(11)
    thetas = torch.full((SECTIONS,), theta)
    estimates = torch.stack([small.observe(estimator(name), thetas, 40, noise) for _ in range(16)])
    truth = small.truth([theta] * SECTIONS)
    error = estimates.std(0) / 4
    assert float(error.norm()) < 0.25 * float(truth.norm())
    assert bool(((estimates.mean(0) - truth).abs() < 6 * error).all())


def relative_error(small: SmallNetwork, name: str, theta: float) -> float:
    truth = small.truth([theta] * SECTIONS)
    found = small.observe(estimator(name), torch.full((SECTIONS,), theta), 120, source(3))
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("theta", THETAS)
def test_two_sided_is_near_the_truth(small: SmallNetwork, theta: float) -> None:
    assert relative_error(small, "two_sided", theta) < 0.7  # 1 is as far as zero, or as twice the truth


@pytest.mark.parametrize("theta", [0.2, 0.9])
def test_two_sided_is_nearer_than_straight_through_at_the_ends(small: SmallNetwork, theta: float) -> None:
    assert relative_error(small, "two_sided", theta) < 0.5 * relative_error(small, "straight_through", theta)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_that_has_seen_nothing_says_zero(name: str) -> None:
    assert estimator(name).delta().tolist() == [0.0] * SECTIONS


@pytest.mark.parametrize("name", ESTIMATORS)
def test_removed_sections_have_a_delta_of_zero(small: SmallNetwork, name: str) -> None:
    network = make(f"mlp-residual-{SECTIONS}", shape=(1, 7, 7))
    for index in (1, 4):
        network.sections[index].branch = None
    one = SmallNetwork(network, small.x, small.y, {})
    delta = one.observe(estimator(name), torch.full((SECTIONS,), 0.5), 60, source(0))
    if name == "disarm":  # all other sections' differences weigh on it: zero in the mean, not in each draw
        return
    assert [value == 0 for value in delta.tolist()] == [False, True, False, False, True]


@pytest.mark.parametrize("name", ["two_sided", "disarm"])
def test_both_sides_are_drawn_however_sure_theta_is(name: str) -> None:
    """Four expected examples of a batch of 200: a probability of 0.02 at the least."""
    sampling = estimator(name, batch=200).sampling(torch.tensor([0.0, 0.01, 0.5, 0.999, 1.0]))
    assert sampling.tolist() == pytest.approx([0.02, 0.02, 0.5, 0.98, 0.98])


def test_the_floor_of_a_tiny_batch_is_a_fair_coin() -> None:
    assert estimator("two_sided", batch=2).sampling(torch.tensor([0.0, 1.0])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", ["straight_through", "finite_difference"])
def test_other_estimators_draw_with_theta_itself(name: str) -> None:
    gates = estimator(name).draw(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5]), 50, source(0)).squeeze(2)
    assert gates[:4].mean(1).tolist() == [0, 1, 0, 1]
    assert gates.shape == (5, 50)


def test_gates_are_drawn_per_example_with_their_probability() -> None:
    draws = bernoulli_gates(torch.tensor([0.1, 0.7]), 40_000, source(0)).squeeze(2)
    assert draws.unique().tolist() == [0, 1]
    assert draws.mean(1).tolist() == pytest.approx([0.1, 0.7], abs=0.01)
    assert float(torch.corrcoef(draws)[0, 1]) == pytest.approx(0, abs=0.02)


def test_antithetic_draws_have_the_same_probability_and_oppose_each_other() -> None:
    first, second = antithetic_gates(torch.tensor([0.3]), 40_000, source(0))
    assert [float(first.mean()), float(second.mean())] == pytest.approx([0.3, 0.3], abs=0.01)
    assert float((first * second).sum()) == 0


def test_averages_forget_at_the_given_rate() -> None:
    """Slopes of 1 on both sides, then of 3, in equal numbers: (1 * 0.5 + 3) / (0.5 + 1)."""
    two_sided = TwoSided(1, 2, 0.5, 1.0, torch.device("cpu"))
    gates = torch.tensor([[[1.0], [0.0]]])
    for slope in (1.0, 3.0):
        two_sided.update(torch.tensor([0.5]), gates, torch.full((1, 2), slope), torch.zeros(2), no_losses)
    assert two_sided.delta().item() == pytest.approx(3.5 / 1.5)


def test_a_side_not_seen_lately_keeps_its_mean() -> None:
    """One open gate of slope 3, whose weight has fallen to a quarter of an example, and one closed gate of slope 5."""
    two_sided = TwoSided(1, 1, 0.25, 1.0, torch.device("cpu"))
    for gate, slope in ((1.0, 3.0), (0.0, 5.0)):
        gates = torch.full((1, 1, 1), gate)
        two_sided.update(torch.tensor([0.5]), gates, torch.full((1, 1), slope), torch.zeros(1), no_losses)
    assert two_sided.delta().item() == pytest.approx((3 + 5) / 2)


def test_finite_differences_forget_only_where_they_look() -> None:
    """Differences of 1 and 3 in the first section, in between 5 and 7 in the second: (1 * 0.5 + 3) / (0.5 + 1)."""
    one = FiniteDifference(2, 1, 0.5, 1.0, torch.device("cpu"))
    for chosen, difference in ((0, 1.0), (1, 5.0), (1, 7.0), (0, 3.0)):
        one.chosen = torch.tensor([chosen])
        losses = torch.tensor([difference])
        one.update(torch.full((2,), 0.5), torch.ones(2, 1, 1), torch.empty(0), losses, lambda _: torch.zeros(1))
    assert one.delta().tolist() == pytest.approx([3.5 / 1.5, 9.5 / 1.5])


def test_two_sided_weighs_the_sides_alike_and_not_by_their_examples() -> None:
    two_sided = TwoSided(1, 4, 1.0, 1.0, torch.device("cpu"))
    gates = torch.tensor([[[1.0], [1.0], [1.0], [0.0]]])
    slopes = torch.tensor([[3.0, 4.0, 5.0, 10.0]])
    two_sided.update(torch.tensor([0.9]), gates, slopes, torch.zeros(4), no_losses)
    assert two_sided.delta().item() == pytest.approx((4 + 10) / 2)


@pytest.mark.parametrize("batch", [7, 100])
def test_slopes_are_those_of_the_mean_loss_whatever_the_batch(batch: int) -> None:
    """A ragged batch of 7 in a method made for batches of 100, against a difference quotient in float64."""
    network = make("mlp-residual-3", shape=(1, 4, 4))
    context = a_context(network)
    network.double()
    x, y = images(batch, (1, 4, 4)).double(), torch.arange(batch) % 10
    settings = GatedSettings(estimator="straight_through", average=0.0, warmup="0ep", theta_lr=1e-9)
    method = Method(settings, network, context)
    method.start_epoch(0)
    gates = method.gates(0, batch)
    losses = functional.cross_entropy(network(x, gates.double()), y, reduction="none")
    losses.mean().backward()
    method.after_backward(0, losses.detach(), no_losses)
    for section in range(3):
        shift = torch.zeros(3, 1, 1, dtype=torch.float64)
        shift[section] = 1e-6
        with torch.no_grad():
            up, down = (functional.cross_entropy(network(x, gates.double() + s), y) for s in (shift, -shift))
        quotient = float(up - down) / 2e-6
        assert float(method.estimator.delta()[section]) == pytest.approx(quotient, rel=1e-4)
