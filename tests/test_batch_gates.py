"""One gate a section and mini-batch (gates: batch): what it computes, bills and reads of Delta."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from networks import CPU, a_context, a_run, a_trainer, digits, source
from torch import Tensor
from torch.nn import functional

from layerprune.core.gates.estimators import FiniteDifference, TwoSided
from layerprune.core.measure import count_macs, section_macs
from layerprune.core.methods.parts.batch_gates import BatchGates
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import CLOSED, Gates, SectionedNetwork
from layerprune.core.settings import GatedSettings, ModelSettings
from layerprune.suite.run.train import Trained, train

BATCH = {"gates": "batch", "estimator": "finite_difference"}
SIZE = 64


@dataclass(frozen=True)
class Enumerated:
    """A network trained with gates by the batch, some batches, and the mean loss of every subnetwork on them."""

    network: SectionedNetwork
    batches: list[tuple[Tensor, Tensor]]
    loss_of: dict[tuple[int, ...], float]

    def losses(self, place: int, gates: Gates) -> Tensor:
        images, labels = self.batches[place]
        return functional.cross_entropy(self.network(images, gates), labels, reduction="none")

    def truth(self, theta: float) -> Tensor:
        """Delta [L] where each gate of a batch is open with probability theta."""
        delta = torch.zeros(len(self.network.sections))
        for keep, loss in self.loss_of.items():
            for section, stays in enumerate(keep):
                others = sum(keep) - stays
                weight = theta**others * (1 - theta) ** (len(keep) - 1 - others)
                delta[section] += weight * loss * (1 if stays else -1)
        return delta

    def flips(self, theta: float, steps: int, seed: int) -> Tensor:
        """What BatchGates reads in so many steps."""
        sections = len(self.network.sections)
        context = a_context(self.network, seed=seed, steps_per_epoch=steps)
        gates = BatchGates(self.network, context, torch.full((sections,), theta))
        estimator = FiniteDifference(sections, SIZE, 1.0, 4.0, CPU)
        gates.start_epoch(0)
        with torch.no_grad():
            for step in range(steps):
                place = step % len(self.batches)
                losses = self.losses(place, gates.draw(step))
                gates.update(estimator, losses, lambda other, place=place: self.losses(place, other))
        return estimator.delta()

    def slopes(self, theta: float, steps: int, seed: int) -> Tensor:
        """What the two-sided estimator reads in as many batches whose examples each have gates of their own."""
        estimator, noise = TwoSided(len(self.network.sections), SIZE, 1.0, 4.0, CPU), source(seed)
        probabilities = torch.full((len(self.network.sections),), theta)
        for step in range(steps):
            xi = estimator.draw(probabilities, SIZE, noise).requires_grad_()
            losses = self.losses(step % len(self.batches), xi)
            (slopes,) = torch.autograd.grad(losses.sum(), xi)
            estimator.update(probabilities, xi.detach(), slopes.squeeze(2), losses.detach(), lambda other: other)
        return estimator.delta()


def mean_and_spread(readings: list[Tensor]) -> tuple[Tensor, Tensor]:
    stacked = torch.stack(readings)
    return stacked.mean(0), stacked.std(0)


@pytest.fixture(scope="module", params=["mlp-residual-4", "resnet-14"])
def small(request: pytest.FixtureRequest) -> Enumerated:
    """Its batch normalisation goes by the batch, as in training."""
    size = ModelSettings(width=4) if request.param == "resnet-14" else ModelSettings()
    network = build(request.param, (1, 14, 14), 10, source(0), size)
    data = digits().train
    pixels = functional.avg_pool2d(data.images.float() / 127 - 1, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    noise = source(2)
    for _ in range(80):
        chosen = torch.randint(len(data.labels), (SIZE,), generator=noise)
        gates = [None if each < 0.5 else CLOSED for each in torch.rand(len(network.sections), generator=noise)]
        loss = functional.cross_entropy(network(pixels[chosen], gates), data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    places = [torch.arange(SIZE * each, SIZE * (each + 1)) for each in range(4)]
    batches = [(pixels[each], data.labels[each]) for each in places]
    found = Enumerated(network, batches, {})
    for keep in itertools.product((0, 1), repeat=len(network.sections)):
        gates = [None if stays else CLOSED for stays in keep]
        found.loss_of[keep] = math.fsum(float(found.losses(place, gates).mean()) for place in range(4)) / 4
    return found


@pytest.mark.parametrize(
    ("small", "theta"),
    [("mlp-residual-4", 0.2), ("mlp-residual-4", 0.5), ("mlp-residual-4", 0.9), ("resnet-14", 0.5)],
    indirect=["small"],
)
def test_flips_are_unbiased(small: Enumerated, theta: float) -> None:
    """The mean of twelve readings lies within six standard errors, which are small beside the truth."""
    mean, spread = mean_and_spread([small.flips(theta, 96, seed) for seed in range(12)])
    truth, error = small.truth(theta), spread / math.sqrt(12)
    assert float(error.norm()) < 0.3 * float(truth.norm())
    assert bool(((mean - truth).abs() < 6 * error + 1e-6).all())


@pytest.mark.parametrize("small", ["resnet-14"], indirect=True)
def test_slopes_of_batches_that_mix_subnetworks_misread_a_network_with_batch_normalisation(small: Enumerated) -> None:
    """Why Delta is not read from a batch with gates by example every so many steps."""
    truth, bias = small.truth(0.5), {}
    for name, read, steps in (("slopes", small.slopes, 24), ("flips", small.flips, 96)):
        mean, _ = mean_and_spread([read(0.5, steps, seed) for seed in range(6)])
        bias[name] = float((mean - truth).norm() / truth.norm())
    assert bias["slopes"] > 0.5 and bias["flips"] < 0.2


# --- what a step computes and costs -------------------------------------------------------------------------------


def a_batch_trainer(**settings: Any) -> Any:
    return a_trainer(a_run("gated", settings=BATCH | {"consolidate_at": 1.0} | settings, weight_decay=0.5))


def test_closed_branches_are_neither_computed_nor_billed() -> None:
    trainer = a_batch_trainer(check_interval=100)
    whole, branches = count_macs(trainer.network, trainer.network.input_shape), section_macs(trainer.network)
    called: list[int] = []
    for index, section in enumerate(trainer.network.sections):
        section.branch.register_forward_hook(lambda *_, index=index: called.append(index))
    for images, labels in trainer.job.batches.epoch(0):
        spent = trainer.meter.total
        called.clear()
        trainer._step(images, labels)
        gates = trainer.method.batch_gates
        opened = [index for index, gate in enumerate(gates.drawn) if gate is None]
        flipped = sorted(set(opened) ^ {gates.chosen})
        assert called == [*opened, *flipped]
        costs = [whole - sum(branches) + sum(branches[each] for each in those) for those in (opened, flipped)]
        assert trainer.meter.total - spent == len(images) * (3 * costs[0] + costs[1])


def test_gates_open_as_often_as_theta_says_and_every_section_is_flipped() -> None:
    trainer = a_batch_trainer()
    context = a_context(trainer.network, steps_per_epoch=4000)
    gates = BatchGates(trainer.network, context, torch.tensor([0.0, 0.2, 0.7, 1.0]))
    gates.start_epoch(0)
    drawn, chosen = zip(*((gates.draw(step), gates.chosen) for step in range(4000)), strict=True)
    opened = [sum(row[index] is None for row in drawn) / 4000 for index in range(4)]
    assert opened == pytest.approx([0, 0.2, 0.7, 1], abs=0.03)
    assert [chosen.count(index) / 4000 for index in range(4)] == pytest.approx([0.25] * 4, abs=0.03)
    trainer.network.sections[1].branch = None
    assert {gates.draw(step) and gates.chosen for step in range(50)} == {0, 2, 3}


def test_gates_are_drawn_from_theta_of_the_last_check() -> None:
    trainer = a_batch_trainer(check_interval=2, checks=3)
    trainer.method.theta.copy_(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert trainer.method.batch_gates.theta == [0.5] * 4
    trainer.method.removals(2)
    assert trainer.method.batch_gates.theta == [0.0, 1.0, 0.0, 1.0]
    assert trainer.method.gates(2, 16) == [CLOSED, None, CLOSED, None]


def test_a_closed_branch_decays_as_the_objective_says() -> None:
    for prior, share in (("independent", 1.0), ("spike-and-slab", 0.0)):
        trainer = a_batch_trainer(theta0=0.0, nu=1.0, weight_prior=prior, check_interval=100)
        weight = next(trainer.network.sections[0].branch.parameters())
        before = weight.detach().clone()
        images, labels = next(iter(trainer.job.batches.epoch(0)))
        trainer._step(images, labels)
        torch.testing.assert_close(weight, (1 - trainer.lr_now(0) * 0.5 * share) * before, rtol=1e-6, atol=1e-8)


def finished(engine: str = "eager", **settings: Any) -> Trained:
    values = BATCH | {"warmup": "10it", "check_interval": 5, "checks": 1, "theta_lr": 0.3, "consolidate_at": 0.8}
    return train(a_run("gated", digits(), settings=values | settings, duration="3ep", batch_size=64, engine=engine))


def test_dear_sections_leave_and_training_costs_less_than_with_gates_by_example() -> None:
    cheap, dear = finished(nu=0.0), finished(nu=3.0)
    assert dear.outcome.keep == [0, 0, 0, 0] and None not in dear.progress.removed_step
    by_example = finished(nu=0.0, gates="example")
    assert cheap.progress.train_macs < 0.9 * by_example.progress.train_macs


def test_recorded_steps_and_what_else_looks_at_gates_go_along() -> None:
    settings = {"nu": 0.02, "confirm": 2, "watch": True}
    eager, recorded = (finished(engine, **settings) for engine in ("eager", "graphs"))
    assert eager.outcome == recorded.outcome and eager.outcome.details["watch"]["step"]
    first, second = eager.network.state_dict(), recorded.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_gates_are_drawn_from_comes_back_from_a_state() -> None:
    first, second = a_batch_trainer(), a_batch_trainer()
    first.method.theta.copy_(torch.tensor([0.0, 1.0, 0.3, 0.6]))
    first.method.batch_gates.know(first.method.theta)
    second.method.load_state(first.method.state())
    assert second.method.batch_gates.theta == first.method.batch_gates.theta != [0.5] * 4


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"gates": "batch"}, "gates: batch has no slopes of closed sections"),
        (BATCH | {"drawn_share": 0.5}, "drawn_share applies to gates by example"),
    ],
)
def test_settings_that_need_gates_by_example_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GatedSettings(**settings)
