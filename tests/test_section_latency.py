"""Latencies of sections, measured; prices and budgets in latency; the scale of weights at the start."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import CPU, a_run, a_trainer, digits, images, make
from torch import nn

from layerprune.core import surgery
from layerprune.core.methods.parts import section_latency
from layerprune.core.networks.sections import scale_branches
from layerprune.suite.run.train import train

TIMES = st.floats(0.0, 10.0)


@given(TIMES, TIMES, st.lists(TIMES, min_size=1, max_size=8))
def test_sections_take_together_what_the_network_is_faster_without_all_of_them(
    whole: float, none: float, without: list[float]
) -> None:
    shared = section_latency.shared_out(whole, none, without)
    assert sum(shared.sections) == pytest.approx(max(whole - none, 0.0))
    assert all(each >= 0 for each in shared.sections)
    for one, other in itertools.combinations(range(len(without)), 2):
        if without[one] <= without[other]:
            assert shared.sections[one] >= shared.sections[other] - 1e-9


def test_the_shortest_of_all_turns_counts() -> None:
    taken = iter([9.0, 9.0, 9.0, 3.0, 2.0, 5.0, 4.0])  # three turns that warm up
    assert section_latency.shortest([lambda: next(taken)], repeats=4) == [2000.0]


@pytest.mark.parametrize("arch", ["mlp-residual-4", "resnet-8", "preact-resnet-20", "lenet5"])
def test_a_network_is_what_it_was_once_its_sections_are_measured(arch: str) -> None:
    shape = (1, 28, 28) if arch in ("mlp-residual-4", "lenet5") else (3, 8, 8)
    network = make(arch, shape=shape).eval()
    x = images(3, shape)
    before, text = network(x), str(network)
    with section_latency.without_branches(network.sections):
        assert not any(network.keep())
        bare = network(x)
    assert torch.equal(network(x), before) and str(network) == text and all(network.keep())
    surgery.remove_all_but(network, [0] * len(network.sections))
    assert torch.equal(network(x), bare)


def test_a_section_that_computes_more_takes_longer() -> None:
    network = make("mlp-residual-3")
    wide = network.sections[1]
    width = next(each.in_features for each in wide.branch if isinstance(each, nn.Linear))
    wide.branch = nn.Sequential(nn.Linear(width, 6000), nn.ReLU(), nn.Linear(6000, width))
    found = section_latency.of_network(network, CPU, batch=8)
    assert found.sections[1] > 2 * max(found.sections[0], found.sections[2])
    assert sum(found.sections) < found.whole


def trained(**settings: object):
    defaults = {"theta_lr": 1.0, "warmup": "8it", "consolidate_at": 0.8, "check_interval": 10, "nu": 0.01}
    return train(a_run("gated", digits(), arch="mlp-residual-4", settings=defaults | settings, duration="4ep"))


def test_a_budget_in_latency_ends_within_half_a_section_of_it() -> None:
    told = (finished := trained(target_latency=0.7)).outcome.details["latency"]
    left = told["whole_ms"] - sum(
        took for took, stays in zip(told["section_ms"], finished.network.keep(), strict=True) if not stays
    )
    assert abs(left / told["whole_ms"] - 0.7) <= 0.5 * max(told["section_ms"]) / told["whole_ms"] + 1e-9
    assert told["left_ms"] > 0


def test_prices_by_latency_are_in_proportion_to_what_was_measured() -> None:
    method = a_trainer(a_run("gated", digits(), settings={"cost": "latency", "nu": 0.5})).method
    taken = torch.tensor(method.latencies.sections)
    assert method.prices.tolist() == pytest.approx((0.5 * taken * len(taken) / taken.sum()).tolist())


def test_a_resumed_run_keeps_the_latencies_that_it_started_with() -> None:
    first, second = (a_trainer(a_run("gated", digits(), settings={"target_latency": 0.7})).method for _ in range(2))
    state = first.state() | {"latencies": (2.0, tuple(0.1 * place for place in range(1, len(first.theta) + 1)))}
    second.load_state(state)
    assert second.latencies.whole == 2.0 and second.budget.costs == state["latencies"][1]
    assert second.budget.allowed == pytest.approx(0.7 * 2.0 - (2.0 - sum(second.budget.costs)))


@pytest.mark.parametrize("method", ["gated", "sss", "hard-concrete"])
def test_the_scale_at_the_start_is_that_of_the_branches_weights_alone(method: str) -> None:
    plain, scaled = (
        a_trainer(a_run(method, digits(), arch="resnet-8", settings={"initial_scale": scale})).network
        for scale in (1.0, 3.0)
    )
    for name, value in plain.state_dict().items():
        scales = ".branch." in name and value.dim() > 1
        assert torch.equal(scaled.state_dict()[name], value * 3 if scales else value), name


def test_a_scale_of_1_changes_nothing() -> None:
    network, other = make("resnet-8", shape=(3, 8, 8)), make("resnet-8", shape=(3, 8, 8))
    scale_branches(network, 1.0)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
