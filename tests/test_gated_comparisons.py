"""What gated training is compared with: other priors, budgets, sections that stay; and what is noted of it."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import a_context, a_run, a_trainer, digits, make
from scipy.optimize import minimize_scalar
from scipy.stats import beta as beta_density
from torch import Tensor

from layerprune.core.gates import priors
from layerprune.core.measure import count_macs, section_macs
from layerprune.core.methods.parts import gate_trace
from layerprune.core.methods.parts.budget import Budget, of_depth
from layerprune.core.methods.trained import gated
from layerprune.core.settings import GatedSettings
from layerprune.errors import SettingError
from layerprune.suite.run.train import Trained, train

INSIDE = st.floats(0.05, 0.95)
MEAN = 0.1

# --- priors -----------------------------------------------------------------------------------------------------


def divergence(theta: float, pi: float) -> float:
    return theta * math.log(theta / pi) + (1 - theta) * math.log((1 - theta) / (1 - pi))


def cost(prior: str, theta: float) -> float:
    """Of an open section, in nats: of the Beta prior the least over pi, which is searched for."""
    if prior == "fixed":
        return divergence(theta, MEAN)
    density = beta_density(1, 1 / MEAN - 1)
    return minimize_scalar(
        lambda pi: divergence(theta, pi) - density.logpdf(pi), bounds=(1e-9, 1 - 1e-9), options={"xatol": 1e-12}
    ).fun


def slope(prior: str, theta: float) -> float:
    return (cost(prior, theta + 1e-4) - cost(prior, theta - 1e-4)) / 2e-4


@pytest.mark.parametrize("prior", ["fixed", "beta"])
@given(theta=INSIDE)
def test_slopes_are_those_of_the_cost_and_1_where_theta_starts(prior: str, theta: float) -> None:
    of_theta = priors.slope_of(prior, MEAN, 0.5)
    assert float(of_theta(torch.tensor([theta]))) == pytest.approx(slope(prior, theta) / slope(prior, 0.5), abs=1e-3)
    assert float(of_theta(torch.tensor([0.5]))) == pytest.approx(1)


def test_a_fixed_prior_holds_a_section_that_is_nearly_closed_and_both_press_on_one_that_is_open() -> None:
    closed, opened = torch.tensor([0.01]), torch.tensor([0.99])
    fixed, beta = (priors.slope_of(prior, MEAN, 0.5) for prior in ("fixed", "beta"))
    assert float(fixed(closed)) < 0 < float(beta(closed)) < 1
    assert float(fixed(opened)) > 2 and float(beta(opened)) > 2
    for at in (torch.zeros(1), torch.ones(1)):
        assert torch.isfinite(fixed(at)) and torch.isfinite(beta(at))


def test_without_a_prior_nothing_is_paid_and_the_flat_ones_have_one_slope() -> None:
    assert priors.slope_of("none", MEAN, 0.5)(torch.rand(4)).tolist() == [0, 0, 0, 0]
    assert priors.slope_of("flattening", MEAN, 0.5) is None is priors.slope_of("l0", MEAN, 0.5)


@pytest.mark.parametrize("theta0", [0.3, 0.5, 0.8])
def test_a_step_on_the_logit_is_a_step_on_theta_at_the_start_and_stays_inside(theta0: float) -> None:
    theta = torch.full((2,), theta0)
    priors.move_logit(theta, torch.tensor([0.01, -0.02]), 0.1, theta0)
    torch.testing.assert_close(theta, theta0 - 0.1 * torch.tensor([0.01, -0.02]), atol=2e-5, rtol=0)
    for _ in range(500):
        priors.move_logit(theta, torch.tensor([1.0, -1.0]), 1.0, theta0)
    assert 0 < float(theta[0]) < 0.05 and 0.95 < float(theta[1]) < 1


def trained(**settings: Any) -> Trained:
    """Four sections on digits, long enough that a price of 1 closes all of them."""
    values = {"warmup": "20it", "check_interval": 10, "theta_lr": 0.05, "consolidate_at": 0.8} | settings
    return train(a_run("gated", digits(), settings=values, duration="4ep", batch_size=64))


@pytest.mark.parametrize(("prior", "any_stay"), [("flattening", False), ("beta", False), ("l0", False), ("none", True)])
def test_dear_sections_go_whatever_the_priors_shape_but_not_where_they_cost_nothing(prior: str, any_stay: bool) -> None:
    assert any(trained(nu=3.0, prior=prior).outcome.keep) == any_stay


def test_a_fixed_prior_leaves_the_decision_to_the_rounding() -> None:
    before = trained(nu=3.0, prior="fixed", consolidate_at=0.7).outcome.details["theta_before_consolidation"]
    assert all(0.05 < theta < 0.2 for theta in before)  # its own mean


# --- budgets ----------------------------------------------------------------------------------------------------

COSTS = (1.0, 2.0, 3.0, 4.0)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0.5, 9.5))
def test_nu_rises_where_the_budget_is_exceeded_and_falls_where_it_is_not(theta: list[float], allowed: float) -> None:
    theta = torch.tensor(theta)
    spent = float(theta @ torch.tensor(COSTS))
    factor = Budget(allowed, COSTS).factor(theta)
    assert (factor > 1) == (spent - allowed > 1e-6) or abs(spent - allowed) < 1e-5
    assert math.exp(-1) <= factor <= math.exp(1)


@pytest.mark.parametrize(
    ("theta", "allowed", "log_factor"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4.0, 0.75),  # 10 where 4 are allowed: half of the excess of 150 %
        ([1.0, 0.5, 0.0, 0.0], 4.0, -0.25),  # 2 where 4 are allowed
        ([0.0, 0.0, 0.0, 0.0], 4.0, -0.5),  # nothing is open: the fastest fall
        ([1.0, 1.0, 1.0, 1.0], 2.0, 1.0),  # an excess of 400 %: no more than a factor e
        ([0.75, 0.0, 0.0, 0.0], 0.5, 0.125),  # less allowed than any section costs: relative to the cheapest
    ],
)
def test_log_nu_moves_by_half_the_relative_excess_and_at_most_by_one(
    theta: list[float], allowed: float, log_factor: float
) -> None:
    assert math.log(Budget(allowed, COSTS).factor(torch.tensor(theta))) == pytest.approx(log_factor)


def test_a_check_multiplies_nu_and_every_price_by_the_factor() -> None:
    network = make("mlp-residual-4")
    settings = GatedSettings(nu=0.01, target_depth=2, cost="macs", warmup="0it", check_interval=5)
    method = gated.Method(settings, network, a_context(network))
    method.theta = torch.tensor([1.0, 1.0, 1.0, 0.5])  # 3.5 sections where 2 are asked for
    before = method.prices.clone()
    method.removals(5)
    assert method.nu == pytest.approx(0.01 * math.exp(0.375))
    torch.testing.assert_close(method.prices, before * math.exp(0.375))


@given(st.permutations(range(4)), st.floats(0, 10), st.tuples(*[st.integers(0, 1)] * 4))
def test_no_removal_undercuts_the_budget_by_more_than_half_a_section(
    candidates: list[int], allowed: float, alive: tuple[int, ...]
) -> None:
    gone = Budget(allowed, COSTS).may_go(candidates, alive)
    left = sum(cost for cost, stays in zip(COSTS, alive, strict=True) if stays) - sum(COSTS[index] for index in gone)
    assert all(alive[index] for index in gone)
    assert not gone or left >= allowed - max(COSTS[index] for index in gone) / 2


def test_rounding_keeps_the_highest_theta_and_of_equals_what_is_worth_most() -> None:
    theta, worth = torch.tensor([0.0, 1.0, 1.0, 0.3]), torch.tensor([9.0, 0.1, 0.2, 0.0])
    alike = Budget(2.0, (1.0,) * 4)
    assert alike.rounded(theta, worth, [1, 1, 1, 1]).tolist() == [0, 1, 1, 0]
    assert Budget(1.0, (1.0,) * 4).rounded(theta, worth, [1, 1, 1, 1]).tolist() == [0, 0, 1, 0]
    assert alike.rounded(theta, worth, [1, 0, 1, 1]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("count", "nu"), list(product((1, 3), (0.001, 0.5))))
def test_as_many_sections_are_left_as_asked_whatever_the_price_at_the_start(count: int, nu: float) -> None:
    finished = trained(target_depth=count, nu=nu)
    assert sum(finished.outcome.keep) == count and finished.outcome.details["nu"] != nu


@pytest.mark.parametrize("share", [0.75, 0.9])
def test_as_many_macs_are_left_as_asked_to_within_half_a_section(share: float) -> None:
    network = trained(target_macs=share, nu=0.01).network
    whole = make("mlp-residual-4", shape=network.input_shape)
    most = max(section_macs(whole)) / count_macs(whole, whole.input_shape)
    left = count_macs(network, network.input_shape) / count_macs(whole, whole.input_shape)
    assert left == pytest.approx(share, abs=most / 2 + 1e-6)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"target_macs": 0.01}, r"settings.target_macs: 0.01 of the multiply-adds is less than what cannot be removed"),
        (
            {"target_latency": 0.0001},
            r"settings.target_latency: 0.0001 of the latency is less than what cannot be removed",
        ),
        ({"target_depth": 5}, r"settings.target_depth: 5 sections requested, the network has 4"),
    ],
)
def test_a_budget_that_cannot_be_met_is_said(settings: dict, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        trained(**settings)


def test_all_sections_may_be_asked_for_and_a_section_that_leaves_half_of_itself_too_little_may_go() -> None:
    assert of_depth(4, 4) == Budget(4.0, (1.0,) * 4)
    assert Budget(2.5, (1.0,) * 3).may_go([0, 1], [1, 1, 1]) == [0]
    assert Budget(2.6, (1.0,) * 3).may_go([0, 1], [1, 1, 1]) == []


def test_two_budgets_are_refused() -> None:
    for pair in ({"target_macs": 0.5, "target_depth": 3}, {"target_depth": 3, "target_latency": 0.5}):
        with pytest.raises(ValueError, match="give one of target_macs, target_depth and target_latency"):
            GatedSettings(**pair)


# --- what is noted ----------------------------------------------------------------------------------------------


def test_a_sections_worth_is_what_its_opening_lowers_the_loss_by() -> None:
    """Losses that add up: each open section l lowers the loss by l + 1."""

    def losses_of(gates: Tensor) -> Tensor:
        return (10 - (gates.flatten() * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum()).repeat(3)

    losses, found = gate_trace.benefits(torch.tensor([0.9, 0.1, 0.5, 0.0]), [1, 1, 1, 0], losses_of)
    assert found.tolist() == pytest.approx([1, 2, 3, 0]) and losses.tolist() == pytest.approx([10 - 1 - 3] * 3)


def test_every_check_is_noted_until_consolidation_and_sections_that_are_gone_have_nothing() -> None:
    finished = trained(nu=3.0, watch=True, checks=1)
    notes = finished.outcome.details["watch"]
    assert notes["step"] == list(range(10, 10 * len(notes["step"]) + 1, 10))
    assert all(len(values) == len(notes["step"]) for values in notes.values())
    gone = [step for step in finished.progress.removed_step if step is not None]
    for place, step in enumerate(finished.progress.removed_step):
        seen = [note for note, theta in zip(notes["step"], notes["theta"], strict=True) if theta[place] is not None]
        assert max(seen) == step  # it leaves behind the check that notes it last
    assert len(gone) == 4
    for name in ("norm", "gradient"):
        found = [value for values in notes[name] for value in values if value is not None]
        assert all(value > 0 for value in found)
        assert max(len(f"{value:.9e}".split("e")[0].rstrip("0")) for value in found) == 6  # 5 digits and the point


def test_gates_that_are_all_drawn_as_theta_rounded_cost_what_it_costs_whichever_images_met_them() -> None:
    finished = trained(nu=3.0, watch=True, remove=False, drawn_share=0.25, side_floor=1e-6)
    notes = {name: torch.tensor(values) for name, values in finished.outcome.details["watch"].items()}
    closed = (notes["theta"] <= 0).all(1)
    assert closed.any() and not closed.all()
    assert torch.allclose(notes["drawn"][closed], notes["rounded"][closed], rtol=1e-4)
    assert not torch.isclose(notes["drawn"][~closed], notes["rounded"][~closed], rtol=1e-3).all()


def test_where_matrices_alone_decay_their_norm_is_noted_and_of_closed_sections_it_falls_as_predicted() -> None:
    run = {"duration": "8ep", "batch_size": 64, "lr": 0.05, "weight_decay": 0.005, "schedule": "constant"}
    settings = {"nu": 3.0, "warmup": "20it", "check_interval": 10, "theta_lr": 0.05, "consolidate_at": 0.8}
    settings |= {"remove": False, "watch": True, "side_floor": 1e-6}  # closed sections meet no gradient
    noted = {
        kind: train(a_run("gated", digits(), settings=settings, decayed=kind, **run)).outcome.details["watch"]
        for kind in ("all", "matrices")
    }
    assert "decayed" not in noted["all"]
    notes = {name: torch.tensor(values) for name, values in noted["matrices"].items()}
    closed = torch.nonzero((notes["theta"] <= 0).all(1)).flatten()
    start, end = closed[4], closed[-1]  # momentum from before is spent
    predicted = 0.05 / (1 - 0.9) * 0.005 * float(notes["step"][end] - notes["step"][start])
    lost = (notes["decayed"][start] / notes["decayed"][end]).log()
    assert lost.tolist() == pytest.approx([predicted] * 4, rel=0.05)
    assert bool((notes["decayed"] < notes["norm"]).all())


def test_watching_changes_no_weight() -> None:
    plain, watched = (trained(nu=0.01, watch=each) for each in (False, True))
    states = [finished.network.state_dict() for finished in (plain, watched)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_sections_that_are_to_stay_stay_until_consolidation() -> None:
    finished = trained(nu=3.0, remove=False, watch=True)
    assert set(finished.progress.removed_step) == {60}  # of 80 steps, the check nearest to 0.8 of them
    assert all(None not in theta for theta in finished.outcome.details["watch"]["theta"])
    assert finished.outcome.details["watch"]["step"][-1] == 60


def test_steps_on_theta_become_smaller_where_asked() -> None:
    moved = []
    for decay in (0.0, 1.0):
        finished = trained(nu=0.05, theta_lr_decay=decay, theta_lr=0.05, remove=False)
        before = torch.tensor(finished.outcome.details["theta_before_consolidation"])
        moved.append(float((before - 0.5).abs().sum()))
    assert moved[1] < 0.75 * moved[0]


def test_a_rising_price_lets_sections_go_later_and_ends_as_the_whole_price() -> None:
    at_once, rising = (trained(nu=3.0, price_ramp=ramp) for ramp in (0.0, 0.4))
    assert rising.progress.removed_step != at_once.progress.removed_step
    assert all(
        late >= early for late, early in zip(*(each.progress.removed_step for each in (rising, at_once)), strict=True)
    )
    trainer = a_trainer(
        a_run("gated", digits(), settings={"price_ramp": 0.4, "warmup": "10it", "consolidate_at": 1.0}, batch_size=64)
    )
    shares = []
    for step in (0, 9, 10, 11, trainer.job.steps_total - 1):
        trainer.method.prepare(step)
        shares.append(float(trainer.method.price_share))
    ramp = trainer.method.ramp_steps
    assert shares == pytest.approx([0, 0, 1 / ramp, 2 / ramp, 1])


@pytest.mark.parametrize("ramp", [0.5, 0.8])
def test_a_ramp_ends_before_theta_is_rounded(ramp: float) -> None:
    """Half of 80 steps after 20 would end at the very step of the rounding, the 60th."""
    with pytest.raises(SettingError, match=rf"price_ramp: {ramp} of training after a warm-up of 20it does not end"):
        trained(price_ramp=ramp)


def test_notes_budget_and_price_come_back_from_a_state() -> None:
    settings = {"watch": True, "target_depth": 2, "nu": 0.05, "check_interval": 5, "consolidate_at": 1.0}
    first, second, after = (a_trainer(a_run("gated", digits(), settings=settings, batch_size=64)) for _ in range(3))
    after.run()
    second.method.load_state(after.method.state())
    assert second.method.state()["watch"]["notes"]["step"][:3] == [5, 10, 15]
    assert second.method.nu == after.method.nu != first.method.nu
    assert torch.equal(second.method.prices, after.method.prices)
