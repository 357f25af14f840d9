"""Sections that are measured, by opening and closing them, before they leave (confirm)."""

from typing import Any

import pytest
import torch
from networks import a_context, a_run, a_trainer, digits, make
from torch import Tensor

from layerprune.core.measure import count_macs, section_macs
from layerprune.core.methods.parts.confirmation import Confirmation
from layerprune.core.methods.trained import gated
from layerprune.core.networks.sections import CLOSED, Gates
from layerprune.core.settings import GatedSettings
from layerprune.suite.run.train import Trained, train
from layerprune.system.process_group import SINGLE_PROCESS

WORTH = torch.tensor([0.3, 0.05, 0.0, -0.2])
"""By how much each open section lowers the loss, in the made-up losses below."""


def losses_of(gates: Gates) -> Tensor:
    """Losses of ten examples that add up over sections: 5 less the worth of what is open."""
    rows = [
        torch.zeros(10) if gate is CLOSED else torch.ones(10) if gate is None else gate.detach().flatten()
        for gate in gates
    ]
    return 5 - (torch.stack(rows) * WORTH.view(-1, 1)).sum(0)


def a_method(steps_total: int = 20, **settings: Any) -> gated.Method:
    """Each check may let go what it finds closed, whose price is 0.1."""
    network = make("mlp-residual-4", shape=(1, 4, 4))
    values = {"warmup": "0ep", "check_interval": 5, "checks": 1, "nu": 0.1, "confirm": 2, "consolidate_at": 1.0}
    method = gated.Method(GatedSettings(**values | settings), network, a_context(network, steps_total=steps_total))
    method.start_epoch(0)
    return method


def steps(method: gated.Method, count: int, theta: list[float] | None = None) -> int:
    """Steps in which theta stays where it is put, and how many second forward passes they asked for."""
    asked = []
    for number in range(count):
        gates = method.gates(number, 10)
        (0.0 * gates).sum().backward()
        method.after_backward(number, losses_of(list(gates)), lambda other: asked.append(other) or losses_of(other))
        if theta is not None:
            method.theta.copy_(torch.tensor(theta))
    return len(asked)


CLOSED_THETA = [0.0, 0.0, 0.0, 1.0]


def test_a_section_leaves_once_its_measured_worth_is_below_the_price_and_begins_anew_where_it_is_not() -> None:
    method = a_method()
    method.theta.copy_(torch.tensor(CLOSED_THETA))
    assert method.removals(5) == []
    assert steps(method, 5, CLOSED_THETA) == 2 * 2 * 3  # two passes on two batches for each of three sections
    assert method.removals(10) == [1, 2]
    assert method.theta.tolist() == [0.5, 0, 0, 1]
    notes = method.outcome().details["confirm"]
    assert [(note["step"], note["section"], note["leaves"]) for note in notes] == [
        (10, 0, False),
        (10, 1, True),
        (10, 2, True),
    ]
    assert [note["delta"] for note in notes] == pytest.approx([-0.3, -0.05, 0.0], abs=1e-6)
    assert [note["price"] for note in notes] == pytest.approx([0.1] * 3)


def test_what_is_measured_is_the_mean_over_batches_under_the_other_gates_of_the_step() -> None:
    """Losses of a product: section 0 is worth 1 only where section 1 is open, which is drawn half of the time."""
    method = a_method(60, confirm=40, check_interval=60)
    theta = [0.0, 0.5, 1.0, 1.0]
    method.theta.copy_(torch.tensor(theta))
    method.confirmation.ask([0])

    def product(gates: Gates) -> Tensor:
        first = 0.0 if gates[0] is CLOSED else 1.0
        return -first * gates[1].detach().flatten()

    for number in range(40):
        gates = method.gates(number, 10)
        (0.0 * gates).sum().backward()
        method.after_backward(number, torch.zeros(10), product)
        method.theta.copy_(torch.tensor(theta))
    difference, examples = method.confirmation.sums[:, 0].tolist()
    assert examples == 400
    assert difference / examples == pytest.approx(-0.5, abs=4 * 0.5 / 20)


def test_a_batch_of_one_counts_as_one() -> None:
    method = a_method()
    method.confirmation.ask([0])
    method.confirmation.take_in(list(method.gates(0, 1)), lambda gates: torch.ones(1))
    assert float(method.confirmation.sums[1, 0]) == 1


def test_a_section_whose_theta_rises_meanwhile_is_not_asked_about_any_more() -> None:
    method = a_method(confirm=8)
    method.theta.copy_(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    method.removals(5)
    steps(method, 5, [0.3, 1.0, 0.0, 1.0])
    assert method.removals(10) == [] and method.confirmation.measured == {2: 5}
    steps(method, 5, [0.3, 1.0, 0.0, 1.0])
    assert method.confirmation.measured == {2: 8}


def test_before_theta_is_rounded_every_section_that_it_may_close_is_measured() -> None:
    method = a_method(consolidate_at=0.5)
    theta = [0.4, 0.3, 0.6, 1.0]
    method.theta.copy_(torch.tensor(theta))
    assert method.removals(5) == []
    assert steps(method, 5, theta) == 2 * 2 * 3
    assert method.removals(10) == [1]
    assert method.theta.tolist() == [1, 0, 1, 1]
    assert method.theta_before_rounding == pytest.approx(theta)


def test_a_section_refused_at_the_last_check_is_measured_anew_for_the_rounding() -> None:
    method = a_method(consolidate_at=0.75)
    theta = [0.0, 1.0, 1.0, 1.0]
    method.theta.copy_(torch.tensor(theta))
    method.removals(5)
    steps(method, 5, theta)
    assert method.removals(10) == [] and method.theta[0] == 0.5
    steps(method, 5, [0.4, 1.0, 1.0, 1.0])  # falls again, for slopes that say nothing
    assert method.removals(15) == []
    assert [note["leaves"] for note in method.outcome().details["confirm"]] == [False, False]


def test_a_budget_decides_what_the_rounding_keeps() -> None:
    method = a_method(consolidate_at=0.5, target_depth=2)
    theta = [0.4, 0.3, 0.6, 1.0]
    method.theta.copy_(torch.tensor(theta))
    assert method.removals(5) == [] and method.confirmation.measured == {}
    steps(method, 5, theta)
    assert method.removals(10) == [0, 1]


def test_the_passes_are_billed_the_closed_one_without_its_branch() -> None:
    settings = {"confirm": 2, "nu": 0.0, "consolidate_at": 1.0, "check_interval": 50}
    trainer = a_trainer(a_run("gated", settings=settings))
    whole, branch = count_macs(trainer.network, trainer.network.input_shape), section_macs(trainer.network)[1]
    trainer.method.confirmation.ask([1])
    bills = []
    for images, labels in trainer.job.batches.epoch(0):
        spent = trainer.meter.total
        trainer._step(images, labels)
        bills.append(trainer.meter.total - spent)
    plain = 3 * 16 * whole
    assert bills[:3] == [plain + 16 * (2 * whole - branch)] * 2 + [plain]


def finished(confirm: int, engine: str = "eager", **settings: Any) -> Trained:
    values = {"warmup": "10it", "check_interval": 6, "checks": 1, "theta_lr": 0.3, "nu": 0.3, "consolidate_at": 0.8}
    values |= {"confirm": confirm} | settings
    return train(a_run("gated", digits(), settings=values, duration="3ep", batch_size=64, engine=engine))


def test_dear_sections_leave_one_interval_later_than_unmeasured_and_the_others_come_back() -> None:
    at_once, measured = finished(0, nu=3.0), finished(2, nu=3.0)
    assert at_once.outcome.keep == [0, 0, 0, 0] == measured.outcome.keep
    pairs = zip(at_once.progress.removed_step, measured.progress.removed_step, strict=True)
    assert all(late >= early + 6 for early, late in pairs)
    assert all(note["leaves"] for note in measured.outcome.details["confirm"])
    assert "confirm" not in at_once.outcome.details
    mixed = finished(2, nu=0.005, theta_lr=4.0).outcome
    assert {note["leaves"] for note in mixed.details["confirm"]} == {True, False}


def test_recorded_steps_and_a_resume_give_the_same() -> None:
    eager, recorded = (finished(2, engine, nu=0.6) for engine in ("eager", "graphs"))
    assert eager.outcome == recorded.outcome and eager.progress.train_macs == recorded.progress.train_macs
    assert eager.outcome.details["confirm"]
    first, second = eager.network.state_dict(), recorded.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_measured_comes_back_from_a_state() -> None:
    method, other = a_method(), a_method()
    method.theta.copy_(torch.tensor(CLOSED_THETA))
    method.removals(5)
    steps(method, 1, CLOSED_THETA)
    other.load_state(method.state())
    for each in (method, other):
        assert each.confirmation.measured == {0: 1, 1: 1, 2: 1}
        steps(each, 4, CLOSED_THETA)
        assert each.removals(10) == [1, 2]
    first, second = (each.outcome().details["confirm"] for each in (method, other))
    assert [note["delta"] for note in first] == pytest.approx([note["delta"] for note in second], abs=1e-6)
    assert len(first) == 3


def test_only_what_was_measured_is_noted_be_it_on_one_example() -> None:
    asked = Confirmation(1, 3, torch.device("cpu"), SINGLE_PROCESS)
    asked.ask([0, 1])
    assert asked.refused(5, [0, 1, 2], torch.full((3,), 0.1)) == [] and asked.notes == []
    asked.take_in([None] * 3, lambda gates: torch.tensor([3.0 if gates[0] is CLOSED else 2.0]))
    assert asked.refused(10, [0, 1, 2], torch.full((3,), 0.9)) == [0]
    assert [(note["section"], note["delta"], note["leaves"]) for note in asked.notes] == [(0, -1, False), (1, 0, True)]
    assert asked.measured == {}
