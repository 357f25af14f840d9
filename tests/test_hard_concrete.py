"""Hard-concrete gates: closed as often as they should be, exactly 0 below the threshold, differentiable."""

import math
from typing import Any

import pytest
import torch
from networks import a_context, a_run, a_trainer, make, source

from layerprune.core.gates import hard_concrete
from layerprune.core.methods.trained.hard_concrete import Method
from layerprune.core.settings import HardConcreteSettings
from layerprune.suite.config import RunSettings


@pytest.mark.parametrize("log_a", [-3.0, -1.6, 0.0, 2.2])
def test_gates_are_open_as_often_as_the_probability_says(log_a: float) -> None:
    draws = hard_concrete.sample(torch.full((200_000,), log_a), source(0))
    probability = float(hard_concrete.open_probability(torch.tensor(log_a)))
    error = (probability * (1 - probability) / 200_000) ** 0.5
    assert float((draws > 0).float().mean()) == pytest.approx(probability, abs=5 * error)


def test_draws_reach_both_ends_exactly_and_stay_between() -> None:
    draws = hard_concrete.sample(torch.zeros(10_000), source(1))
    assert float(draws.min()) == 0 and float(draws.max()) == 1
    assert 0.1 < float(((draws > 0) & (draws < 1)).float().mean()) < 0.9


def test_the_start_value_opens_a_gate_almost_always() -> None:
    assert float(hard_concrete.open_probability(torch.tensor(2.2))) == pytest.approx(0.978, abs=1e-3)


def test_the_gate_after_training_is_exactly_zero_from_the_threshold_down() -> None:
    assert pytest.approx(-2.3979, abs=1e-4) == hard_concrete.CLOSED_BELOW
    just_below, just_above = hard_concrete.CLOSED_BELOW - 1e-4, hard_concrete.CLOSED_BELOW + 1e-3
    gates = hard_concrete.deterministic(torch.tensor([just_below, just_above, -9.0, 9.0]))
    assert gates[0] == 0 and gates[1] > 0 and gates[2] == 0 and gates[3] == 1


def test_gradients_flow_to_log_a_through_draws_and_through_the_price() -> None:
    for of in (lambda a: hard_concrete.sample(a, source(2)), hard_concrete.open_probability):
        log_a = torch.zeros(1000, requires_grad=True)
        of(log_a).sum().backward()
        assert float((log_a.grad > 0).float().mean()) > 0.3 and bool((log_a.grad >= 0).all())


def a_method(**settings: Any) -> Method:
    """Weight decay has tests of its own, below."""
    network = make("mlp-residual-3")
    method = Method(HardConcreteSettings(**({"decay": "full"} | settings)), network, a_context(network))
    method.start_epoch(0)
    return method


def take_step(method: Method, gradient: float, lr: float = 0.1) -> None:
    method.log_a.grad = torch.full_like(method.log_a, gradient)
    method.after_backward(0, torch.zeros(1), lambda gates: torch.zeros(1))
    method.after_step(0, lr)


@pytest.mark.parametrize(("gradient", "end"), [(1e6, 0.01), (-1e6, 100.0)])
def test_log_a_is_clamped_to_a_hundredth_and_a_hundred(gradient: float, end: float) -> None:
    method = a_method()
    take_step(method, gradient)
    assert method.log_a.exp().flatten().tolist() == pytest.approx([end] * 3, rel=1e-3)


def test_log_a_moves_with_the_weights_momentum() -> None:
    method = a_method(log_a0=0.0, gate_lr=0.5)
    take_step(method, 1.0)
    assert method.log_a.flatten().tolist() == pytest.approx([-0.05] * 3)
    take_step(method, 1.0)  # 1 + 0.9
    assert method.log_a.flatten().tolist() == pytest.approx([-0.145] * 3)


def test_the_price_rises_linearly_over_the_first_part_of_training() -> None:
    method = a_method(penalty=1.0, ramp=0.5)  # 20 steps, so a ramp of 10
    prices = torch.empty(20)
    for step in range(20):
        method.prepare(step)
        prices[step] = method.penalty(step).detach()
    full = 3 * float(hard_concrete.open_probability(torch.tensor(2.2)))
    assert prices[[0, 4, 9, 19]].tolist() == pytest.approx([0.1 * full, 0.5 * full, full, full])


def test_closed_gates_remove_and_open_gates_scale() -> None:
    method = a_method()
    with torch.no_grad():
        method.log_a.copy_(torch.tensor([-4.0, 0.0, 4.0]).view(3, 1, 1))
    outcome = method.outcome()
    assert outcome.keep == [0, 1, 1]
    assert outcome.scale == pytest.approx([0.0, 0.5, 1.0])


# --- weight decay -----------------------------------------------------------------------------------------------


def opened(method: Method) -> torch.Tensor:
    """P(z != 0) by its formula, sigmoid(log_a - beta log(-gamma / zeta))."""
    return 1 / (1 + torch.exp(-(method.log_a.detach().flatten() - 2 / 3 * math.log(0.1 / 1.1))))


def a_trainer_at(log_a: list[float], decayed: str = "all", **settings: Any) -> Any:
    """A trainer whose loss says nothing: what moves weights and gates is decay and price."""
    trainer = a_trainer(a_run("hard-concrete", settings=settings, weight_decay=0.5, momentum=0.0, decayed=decayed))
    with torch.no_grad():
        trainer.method.log_a.copy_(torch.tensor(log_a).view(-1, 1, 1))
    trainer.method.losses = lambda images, logits, labels: 0 * logits.sum(1)
    return trainer


def step(trainer: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], float]:
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    images, labels = next(iter(trainer.job.batches.epoch(0)))
    trainer._step(images, labels)
    return before, dict(trainer.network.named_parameters()), trainer.lr_now(0)


LOG_A = [-2.0, -0.5, 0.5, 2.2]


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_a_branchs_weights_decay_by_the_probability_of_its_gate_and_all_others_fully(decayed: str) -> None:
    trainer = a_trainer_at(LOG_A, decayed)
    shares = opened(trainer.method).tolist()
    before, after, lr = step(trainer)
    for name, value in before.items():
        share = shares[int(name.split(".")[1])] if ".branch." in name else 1.0
        if decayed == "matrices" and value.ndim < 2:
            share = 0.0
        torch.testing.assert_close(after[name], (1 - lr * 0.5 * share) * value, rtol=1e-6, atol=1e-9)
    assert 0.1 < shares[0] < 0.5 < shares[2] < 1


def test_the_gate_feels_price_and_norm_as_the_combined_penalty_says() -> None:
    """By differences of sum P (lambda c + d / 2 ||W||^2)."""
    trainer = a_trainer_at(LOG_A, penalty=0.3, ramp=0.0)
    method = trainer.method
    norms = torch.stack([sum(p.square().sum() for p in s.branch.parameters()) for s in trainer.network.sections])
    prices = 0.3 + 0.25 * norms.detach().double()
    before = method.log_a.detach().clone().flatten().double()

    def probability(log_a: torch.Tensor) -> torch.Tensor:
        return 1 / (1 + torch.exp(-(log_a - 2 / 3 * math.log(0.1 / 1.1))))

    slope = (probability(before + 1e-5) - probability(before - 1e-5)) / 2e-5 * prices
    _, _, lr = step(trainer)
    expected = (before - lr * slope).clamp(-4.605, 4.605)
    torch.testing.assert_close(method.log_a.detach().flatten().double(), expected, rtol=1e-5, atol=1e-6)


def test_with_full_decay_the_gate_has_no_part_in_it() -> None:
    trainer = a_trainer_at(LOG_A, decay="full", penalty=0.0)
    before, after, lr = step(trainer)
    for name, value in before.items():
        torch.testing.assert_close(after[name], (1 - lr * 0.5) * value, rtol=1e-6, atol=1e-9)
    assert trainer.method.log_a.flatten().tolist() == pytest.approx(LOG_A)


def test_records_from_before_decay_was_a_setting_are_those_of_full_decay() -> None:
    full = a_run("hard-concrete", settings={"decay": "full"}).settings
    record = full.model_dump(mode="json")
    del record["settings"]["decay"]
    assert "decay" not in full.science()["settings"]
    assert RunSettings.of_record(record).digest() == full.digest()
    assert full.digest() != full.model_copy(update={"settings": {}}).digest(), "as published, and so another result"
