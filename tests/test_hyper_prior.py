"""The flattening hyper-prior: a density, minimal where it says, whose price is linear in theta (claim C5)."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import images, make, source
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch.nn import functional

from layerprune.core.gates import priors
from layerprune.core.gates.estimators import bernoulli_gates
from layerprune.core.networks.sections import mask_gates

INSIDE = st.floats(0.01, 0.99)
GAMMA = st.floats(1e-6, 0.95)


@given(theta=INSIDE, gamma=GAMMA)
def test_best_pi_is_where_a_numerical_search_finds_the_minimum(theta: float, gamma: float) -> None:
    """Searched in the logit of pi, which is tiny for small gamma."""

    def cost(logit: float) -> float:
        return priors.complexity(theta, 1 / (1 + math.exp(-logit)), gamma)

    found = minimize_scalar(cost, bounds=(-30, 10), method="bounded", options={"xatol": 1e-9})
    best = priors.best_pi(theta, gamma)
    assert math.log(best / (1 - best)) == pytest.approx(found.x, abs=1e-3)


@given(gamma=GAMMA, first=INSIDE, second=INSIDE)
def test_the_price_of_theta_has_one_slope_everywhere(gamma: float, first: float, second: float) -> None:
    def price(theta: float) -> float:
        return priors.complexity(theta, priors.best_pi(theta, gamma), gamma)

    assert price(first) - price(second) == pytest.approx((first - second) * math.log(1 / gamma), abs=1e-8)


@pytest.mark.parametrize("gamma", [0.9, 0.3, 0.01])
def test_the_hyper_prior_is_a_density(gamma: float) -> None:
    """Where theta equals pi the divergence is 0 and the complexity is -log of the density."""
    total, _ = quad(lambda pi: math.exp(-priors.complexity(pi, pi, gamma)), 0, 1)
    assert total == pytest.approx(1, abs=1e-6)


def test_the_price_is_per_example() -> None:
    assert priors.price(math.log(1000), 55_000) == pytest.approx(1.25595e-4, rel=1e-4)


def expected_loss(losses: dict[tuple[int, ...], float], theta: list[float]) -> float:
    return sum(
        loss * math.prod(p if bit else 1 - p for bit, p in zip(keep, theta, strict=True))
        for keep, loss in losses.items()
    )


def test_the_expected_loss_under_drawn_gates_is_multilinear_in_theta() -> None:
    """Drawn gates agree with the enumeration of all subnetworks, whose second differences vanish."""
    network, x = make("mlp-residual-3", shape=(1, 4, 4)), images(64, (1, 4, 4))
    y = torch.arange(64) % 10
    with torch.no_grad():
        losses = {
            keep: float(functional.cross_entropy(network(x, mask_gates(keep)), y))
            for keep in itertools.product((0, 1), repeat=3)
        }
        for section, others in itertools.product(range(3), (0.2, 0.7)):
            values = []
            for theta_here in (0.1, 0.5, 0.9):
                theta = [theta_here if index == section else others for index in range(3)]
                values.append(expected_loss(losses, theta))
                draws = bernoulli_gates(torch.tensor(theta), 64 * 200, source(section))
                sampled = functional.cross_entropy(network(x.repeat(200, 1, 1, 1), draws), y.repeat(200))
                assert float(sampled) == pytest.approx(values[-1], rel=0.03)
            assert values[0] - 2 * values[1] + values[2] == pytest.approx(0, abs=1e-9)
