"""What every method promises: its rule worked out by hand, and a whole run from settings to record."""

import copy
import csv
import re
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from networks import a_context, a_run, a_trainer, digits, images, make, no_losses, random_data, source
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core import surgery
from layerprune.core.data.batches import evaluation_batches
from layerprune.core.data.dataset import Split
from layerprune.core.measure import count_macs, count_params
from layerprune.core.methods import families, lack, module_name
from layerprune.core.methods.base import ControlPlan, Question, keep_highest
from layerprune.core.methods.controls import shallower
from layerprune.core.methods.scores import leave_one_out, magnitude, random, taylor
from layerprune.core.methods.trained import gated, sss, stochastic_depth
from layerprune.core.networks import arch_file, storage
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import CLOSED, Section, SectionedNetwork
from layerprune.core.settings import GatedSettings, ModelSettings, ScratchAtDepthSettings, StochasticDepthSettings
from layerprune.core.training.evaluate import evaluate
from layerprune.core.training.section_scores import BATCH, draw_sample, metered_score
from layerprune.errors import LayerpruneError
from layerprune.suite import run as running
from layerprune.suite.record import LARGEST_GAP, Record
from layerprune.suite.run.measure import certificate, smaller_network
from layerprune.suite.run.task import Parent
from layerprune.suite.run.train import Trained, train
from layerprune.system import paths
from layerprune.system.paths import RunKey

# --- SSS ----------------------------------------------------------------------------------------------------


def proximal(scale: float, velocity: float, gradient: float) -> tuple[float, float]:
    """A step with learning rate 0.1, gamma 0.2 and momentum 0.9."""
    moved = sss.proximal_step(*(torch.tensor([x]) for x in (scale, velocity, gradient)), 0.1, 0.2, 0.9)
    return moved[0].item(), moved[1].item()


def test_two_proximal_steps_go_where_a_calculation_by_hand_goes() -> None:
    # 1 - 0.05 = 0.95, shrunk to 0.93, velocity -0.07, and 0.9 of it on top.
    first = proximal(1.0, 0.0, 0.5)
    assert first == pytest.approx((0.867, -0.07), abs=1e-6)
    assert proximal(*first, 0.5) == pytest.approx((0.6773, -0.133), abs=1e-6)


def test_a_scale_at_zero_stays_there_under_a_small_gradient_and_revives_under_a_large_one() -> None:
    assert proximal(0.0, 0.0, 0.19) == (0.0, 0.0)
    assert proximal(0.0, 0.0, -0.19) == (0.0, 0.0)
    assert proximal(0.0, 0.0, -1.0) == pytest.approx((0.152, 0.08), abs=1e-6)


def test_a_scale_never_turns_negative() -> None:
    assert proximal(0.01, -0.5, 1.0)[0] == 0


def test_scales_are_no_business_of_the_weights_optimizer() -> None:
    trainer = a_trainer(a_run("sss"))
    held = {id(each) for group in trainer.optimizer.param_groups for each in group["params"]}
    assert id(trainer.method.scale) not in held
    assert held == set(map(id, trainer.network.parameters()))


def test_scales_get_no_weight_decay() -> None:
    trainer = a_trainer(a_run("sss", settings={"gamma": 0.0}, weight_decay=0.5))
    with torch.no_grad():
        for section in trainer.network.sections:
            section.branch[-1].weight.zero_()  # no gradient reaches a scale whose branch gives nothing
    step_through(trainer, 1)
    assert trainer.method.scale.flatten().tolist() == [1, 1, 1, 1]


def step_through(trainer: Any, steps: int) -> None:
    for _, (x, y) in zip(range(steps), trainer.job.batches.epoch(0), strict=False):
        trainer._step(x, y)


# --- stochastic depth ---------------------------------------------------------------------------------------


def stochastic(network: SectionedNetwork, keep_count: int | None = None, **settings: Any) -> stochastic_depth.Method:
    context = a_context(network, steps_per_epoch=4000, keep_count=keep_count)
    return stochastic_depth.Method(StochasticDepthSettings(**settings), network, context)


def test_survival_falls_linearly_to_that_of_the_last_section() -> None:
    assert stochastic(make("mlp-residual-4")).survival == [0.875, 0.75, 0.625, 0.5]


def test_survival_counts_the_sections_too_that_may_not_go() -> None:
    """ResNet-14: six sections, of which the third and the fifth change shapes and stay."""
    settings = ModelSettings(removable="shape-preserving")
    network = build("resnet-14", (3, 8, 8), 10, source(0), settings)
    assert stochastic(network, final_survival=0.4).survival == pytest.approx([0.9, 0.8, 0.6, 0.4])


def test_sections_survive_as_often_as_they_should() -> None:
    method = stochastic(make("mlp-residual-4"))
    method.start_epoch(0)
    drawn = [method.gates(step, 16) for step in range(4000)]
    shares = [sum(gates[index] is None for gates in drawn) / 4000 for index in range(4)]
    assert shares == pytest.approx(method.survival, abs=0.03)
    assert {type(gate) for gates in drawn for gate in gates} == {type(None), type(CLOSED)}


def test_a_section_that_does_not_survive_is_neither_computed_nor_paid_for() -> None:
    trainer = a_trainer(a_run("stochastic-depth", settings={"final_survival": 0.0}))
    last, seen = trainer.network.sections[-1], []
    last.branch.register_forward_hook(lambda *told: seen.append(1))
    before = copy.deepcopy(last.state_dict())
    step_through(trainer, 3)
    assert seen == []
    assert all(torch.equal(before[name], value) for name, value in last.state_dict().items())
    assert trainer.meter.total < 3 * 3 * 16 * trainer.meter.forward_macs()


def test_evaluation_multiplies_every_branch_by_its_survival() -> None:
    network, x = make("mlp-residual-4"), images(3)
    expected = copy.deepcopy(network)
    for section, survival in zip(expected.sections, [0.875, 0.75, 0.625, 0.5], strict=True):
        for parameter in section.branch.parameters():
            parameter.data *= survival
    torch.testing.assert_close(network(x, stochastic(network).evaluation_gates()), expected(x))


def test_as_a_control_stochastic_depth_drops_the_last_sections() -> None:
    assert stochastic(make("mlp-residual-4"), keep_count=3).outcome().keep == [1, 1, 1, 0]
    assert stochastic(make("mlp-residual-4")).outcome().keep == [1, 1, 1, 1]


# --- gated --------------------------------------------------------------------------------------------------


def a_gated(network: SectionedNetwork | None = None, context: dict | None = None, **settings: Any) -> gated.Method:
    """20 steps, 10 an epoch; checks every second step, one suffices, no warm-up."""
    network = network or make("mlp-residual-4", shape=(1, 4, 4))
    values = {"warmup": "0ep", "check_interval": 2, "checks": 1, "nu": 0.1} | settings
    method = gated.Method(GatedSettings(**values), network, a_context(network, **(context or {})))
    method.start_epoch(0)
    return method


def feed(method: gated.Method, step: int, slope: float) -> None:
    """One step in which every example has this slope at every gate."""
    gates = method.gates(step, 10)
    (gates * slope / 10).sum().backward()
    method.after_backward(step, torch.zeros(10), no_losses)


def test_theta_waits_for_the_warm_up() -> None:
    method = a_gated(warmup="3it", consolidate_at=1.0)
    courses = []
    for step in range(5):
        feed(method, step, 1.0)
        courses.append(method.theta[0].item())
    assert courses[:3] == [0.5, 0.5, 0.5] and courses[4] < courses[3] < 0.5


def test_gates_of_a_warm_up_may_stay_open() -> None:
    method = a_gated(warmup="3it", warmup_gates="open", consolidate_at=1.0)
    assert method.gates(2, 10) is None
    method.after_backward(2, torch.zeros(10), no_losses)
    assert method.theta.tolist() == [0.5] * 4
    assert method.gates(3, 10).shape == (4, 10, 1)


def test_gates_are_drawn_as_long_as_a_section_is_left() -> None:
    network = make("mlp-residual-4", shape=(1, 4, 4))
    method = a_gated(network)
    for section in network.sections:
        assert method.gates(0, 10) is not None
        section.branch = None
    assert method.gates(0, 10) is None


def test_the_network_is_evaluated_as_theta_rounded_and_after_the_rounding_as_it_is() -> None:
    method = a_gated()
    method.theta.copy_(torch.tensor([0.5, 0.49, 0.9, 0.1]))
    assert method.evaluation_gates().flatten().tolist() == [1, 0, 1, 0]
    method.removals(method.consolidation)
    assert method.evaluation_gates() is None


def test_theta_is_rounded_at_the_first_check_at_the_earliest() -> None:
    assert a_gated(consolidate_at=0.1, check_interval=5).consolidation == 5


def test_gates_are_drawn_for_a_share_of_the_batch_and_rounded_for_the_rest() -> None:
    method = a_gated(drawn_share=0.25, side_floor=1.0)
    method.theta.copy_(torch.tensor([0.5, 0.49, 0.9, 0.1]))
    drawn = torch.stack([method.gates(0, 400).detach()[..., 0] for _ in range(20)])
    assert drawn[:, :, 100:].mean((0, 2)).tolist() == [1, 0, 1, 0]
    assert drawn[:, :, :100].mean((0, 2)).tolist() == pytest.approx([0.5, 0.49, 0.9, 0.1], abs=0.05)


def test_only_drawn_gates_move_theta() -> None:
    """Three of ten examples are drawn; the others' slopes, however large, say nothing about theta."""
    method = a_gated(drawn_share=0.25, nu=0.0, theta_lr=0.5, estimator="straight_through")
    gates = method.gates(0, 10)
    slopes = torch.full_like(gates, 0.2)
    slopes[:, 3:] = 100.0
    (gates * slopes / 10).sum().backward()
    method.after_backward(0, torch.zeros(10), no_losses)
    assert method.theta.tolist() == pytest.approx([0.5 - 0.5 * 0.2] * 4)


def test_estimators_with_a_second_pass_see_the_rest_of_the_batch_as_it_was() -> None:
    method = a_gated(drawn_share=0.3, estimator="finite_difference", theta_lr=0.1, nu=0.0)
    gates = method.gates(0, 10)
    gates.sum().backward()
    seen = []
    method.after_backward(0, torch.arange(10.0), lambda other: seen.append(other) or torch.zeros(10))
    assert seen[0].shape == (4, 10, 1)
    assert torch.equal(seen[0][:, 3:], gates.detach()[:, 3:])
    assert (seen[0][:, :3] != gates.detach()[:, :3]).any(2).sum() == 3  # one section, flipped for all that were drawn


def test_theta_takes_a_step_against_slope_and_price() -> None:
    method = a_gated(nu=0.1, theta_lr=0.5)
    feed(method, 0, 0.3)
    assert method.theta.tolist() == pytest.approx([0.5 - 0.5 * (0.3 + 0.1)] * 4)


@pytest.mark.parametrize(("slope", "end"), [(5.0, 0.0), (-5.0, 1.0)])
def test_theta_stays_between_zero_and_one(slope: float, end: float) -> None:
    method = a_gated(theta_lr=10.0, consolidate_at=1.0)
    for step in range(3):
        feed(method, step, slope)
        assert method.theta.tolist() == [end] * 4


def test_a_section_goes_only_after_enough_checks_in_a_row() -> None:
    method = a_gated(checks=3, consolidate_at=1.0)
    method.theta.copy_(torch.tensor([0.0, 0.005, 0.5, 1.0]))
    assert [method.removals(2), method.removals(4)] == [[], []]
    method.theta[0] = 0.2  # back in time: its count begins anew
    assert method.removals(6) == [1]
    surgery.remove(method.network, [1])
    method.theta[0] = 0.0
    assert [method.removals(8), method.removals(10), method.removals(12)] == [[], [], [0]]


def test_a_section_whose_loss_would_rise_stays_though_its_theta_is_zero() -> None:
    method = a_gated(nu=0.1, consolidate_at=1.0)
    feed(method, 0, -0.2)
    method.theta.zero_()
    assert method.removals(2) == []


def test_nothing_goes_during_the_warm_up() -> None:
    method = a_gated(warmup="1ep", consolidate_at=1.0)
    method.theta.zero_()
    assert method.removals(8) == [] and method.removals(10) == [0, 1, 2, 3]


def test_a_warm_up_that_leaves_theta_no_step_is_refused() -> None:
    with pytest.raises(LayerpruneError, match=r"settings\.warmup: 1ep leaves theta no step"):
        a_gated(warmup="1ep", consolidate_at=0.5)


def test_consolidation_rounds_at_the_asked_fraction() -> None:
    method = a_gated(consolidate_at=0.5)
    method.theta.copy_(torch.tensor([0.2, 0.5, 0.8, 0.49]))
    assert method.gates(9, 5) is not None
    assert method.removals(10) == [0, 3]
    assert method.curve() == [0, 1, 1, 0]
    assert method.gates(10, 5) is None and method.evaluation_gates() is None
    assert method.removals(12) == []
    assert method.outcome().details["theta_before_consolidation"] == pytest.approx([0.2, 0.5, 0.8, 0.49])


@pytest.mark.parametrize(("asked", "interval", "step"), [(0.5, 7, 7), (1.0, 7, 20), (0.0, 7, 7), (0.6, 50, 20)])
def test_consolidation_falls_on_a_check_and_never_behind_the_end(asked: float, interval: int, step: int) -> None:
    assert a_gated(consolidate_at=asked, check_interval=interval).consolidation == step


@pytest.mark.parametrize("kind", ["uniform", "macs", "params"])
@pytest.mark.parametrize("arch", ["lenet5", "mlp-residual-4"])
def test_cost_weights_sum_to_the_number_of_sections(arch: str, kind: str) -> None:
    network = make(arch)
    costs = a_context(network).costs(kind)
    assert float(costs.sum()) == pytest.approx(len(network.sections), rel=1e-6)


def test_a_section_that_costs_ten_times_the_macs_is_ten_times_as_dear() -> None:
    costs = a_context(make("mlp-residual-3"), section_macs=(10, 100, 10)).costs("macs")
    assert costs.tolist() == pytest.approx([0.25, 2.5, 0.25])


def finished_gated(**settings: Any) -> Trained:
    values = {"warmup": "1it", "check_interval": 1, "checks": 1, "theta_lr": 0.3} | settings
    return train(a_run("gated", settings=values, duration="4ep"))


@pytest.fixture(scope="module")
def pruned() -> Trained:
    finished = finished_gated(target_depth=2, consolidate_at=0.75)
    assert sum(finished.outcome.keep) == 2
    return finished


def test_nothing_is_undecided_after_consolidation(pruned: Trained) -> None:
    last = pruned.progress.rows[-1]
    assert all(last[f"theta_{index:02d}"] in (None, 1.0) for index in range(4))


def test_the_price_and_the_hyper_prior_are_two_names_of_one_thing() -> None:
    log_gamma, examples = 7.0, len(random_data().train)
    runs = [finished_gated(log_gamma=log_gamma), finished_gated(nu=log_gamma / examples)]
    first, second = (run.network.state_dict() for run in runs)
    assert runs[0].outcome.keep == runs[1].outcome.keep
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert without_times(runs[0].progress.rows) == without_times(runs[1].progress.rows)


def without_times(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in rows]


def test_removal_in_training_takes_weights_out_of_the_optimizer_and_makes_steps_cheaper() -> None:
    run = a_run("gated", settings={"nu": 1.0, "warmup": "0ep", "checks": 1, "check_interval": 1})
    trainer = a_trainer(run)
    step_through(trainer, 1)
    spent = trainer.meter.total
    trainer.progress.removed_step = [None] * 4
    trainer._remove([0, 2])
    step_through(trainer, 1)
    assert trainer.network.keep() == [0, 1, 0, 1]
    assert trainer.meter.total - spent == spent - 2 * 3 * 16 * 100 * 100
    held = {id(each) for group in trainer.optimizer.param_groups for each in group["params"]}
    assert held == set(map(id, trainer.network.parameters())) == set(map(id, trainer.optimizer.state))


# --- scores -------------------------------------------------------------------------------------------------


def batches_of(data: Any, split: str = "validation") -> list[tuple[Tensor, Tensor]]:
    return list(evaluation_batches(getattr(data, split), data.mean, data.std, 8))


def small(count: int = 3) -> SectionedNetwork:
    return make(f"mlp-residual-{count}", shape=(1, 4, 4))


@pytest.mark.parametrize("method", [magnitude, taylor])
def test_a_section_whose_weights_are_zero_scores_zero_and_lowest(method: Any) -> None:
    network = small()
    network.sections[1].branch[-1].weight.data.zero_()
    scores = method.score(network, batches_of(random_data())).tolist()
    assert scores[1] == 0 and min(scores[0], scores[2]) > 0


def test_magnitude_is_the_mean_over_filters_of_their_squares() -> None:
    network = small(2)
    for section, weight in zip(network.sections, (0.1, 2.0), strict=True):
        section.branch[-1].weight.data.fill_(weight)
    assert magnitude.score(network, []).tolist() == pytest.approx([1.0, 400.0])


def test_magnitude_and_taylor_score_the_first_layer_of_a_branch() -> None:
    network, data = make("lenet-300-100", shape=(1, 4, 4)), batches_of(random_data())
    first = [method.score(network, data)[0].item() for method in (magnitude, taylor)]
    network.sections[0].branch[0].weight.data.zero_()
    assert min(first) > 0
    assert [method.score(network, data)[0].item() for method in (magnitude, taylor)] == [0, 0]


def test_taylor_agrees_with_difference_quotients() -> None:
    torch.manual_seed(0)
    sections = [Section(f"s{index}", nn.Sequential(nn.ReLU(), nn.Linear(3, 3))) for index in range(2)]
    stem = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    network = SectionedNetwork("own", (1, 2, 2), stem, sections, nn.Linear(3, 3)).double()
    batches = [(torch.randn(6, 1, 2, 2).double(), torch.arange(6) % 3) for _ in range(2)]
    expected = []
    for section in sections:
        weight, total = section.branch[-1].weight, 0.0
        for x, y in batches:
            for place in range(9):
                losses = []
                for shift in (1e-5, -2e-5):
                    weight.data.flatten()[place] += shift
                    losses.append(functional.cross_entropy(network(x), y).item())
                weight.data.flatten()[place] += 1e-5
                total += (weight.data.flatten()[place].item() * (losses[0] - losses[1]) / 2e-5) ** 2
        expected.append(total / 3)  # three filters
    assert taylor.score(network, batches).tolist() == pytest.approx(expected, rel=1e-4)


def test_leave_one_out_is_the_rise_of_the_validation_loss() -> None:
    network, data = small(), random_data()
    images_, labels = next(evaluation_batches(data.validation, data.mean, data.std, len(data.validation)))
    losses = []
    for left_out in (None, 0, 1, 2):
        one = copy.deepcopy(network)
        if left_out is not None:
            one.sections[left_out].branch = None
        losses.append(functional.cross_entropy(one(images_), labels, reduction="sum").item())
    scores = leave_one_out.score(network, batches_of(data)).tolist()
    assert scores == pytest.approx([loss - losses[0] for loss in losses[1:]], rel=1e-3, abs=1e-3)


def test_leave_one_out_looks_at_validation_and_others_at_training_examples() -> None:
    data = random_data()
    assert leave_one_out.LOOKS_AT == "validation"
    seen = draw_sample(data, "validation", 5, 0).split.images
    assert sorted(seen.flatten(1).tolist()) == sorted(data.validation.images.flatten(1).tolist())
    drawn = draw_sample(data, "training", 5, 0).split
    known = {tuple(image.flatten().tolist()) for image in data.train.images}
    assert len(drawn) == 5 and all(tuple(image.flatten().tolist()) in known for image in drawn.images)


@pytest.mark.parametrize("looks_at", ["validation", "training"])
def test_a_batch_has_all_classes_where_images_are_stored_by_class(looks_at: str) -> None:
    labels = torch.arange(4).repeat_interleave(BATCH)
    split = Split(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)
    by_class = replace(random_data(), train=split, validation=split)
    batches = list(draw_sample(by_class, looks_at, len(labels), 0))
    assert [len(batch_labels) for _, batch_labels in batches] == [BATCH] * 4
    assert all(torch.bincount(batch_labels, minlength=4).min() > BATCH / 8 for _, batch_labels in batches)


@pytest.mark.parametrize(
    ("method", "macs"),
    [(random, 0), (magnitude, 0), (taylor, 3 * 32_600), (leave_one_out, 4 * 32_600 - 30_000)],
)
def test_scoring_costs_what_a_count_by_hand_says(method: Any, macs: int) -> None:
    """16x100, three times 100x100, 100x10. Leave-one-out: four passes, three of which lack a section."""
    sample = draw_sample(random_data(), "validation", 17, 0)
    assert metered_score(method.score, small(), sample, 0)[1] == 17 * macs


def test_scoring_leaves_the_network_as_it_was() -> None:
    network, sample = small(), draw_sample(random_data(), "validation", 17, 0)
    before = copy.deepcopy(network.state_dict())
    for method in (random, magnitude, taylor, leave_one_out):
        metered_score(method.score, network, sample, 0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network._forward_hooks and all(each.grad is None for each in network.parameters())


def test_random_scores_follow_the_seed_and_leave_the_global_stream_alone() -> None:
    network, sample = small(), draw_sample(random_data(), "validation", 17, 0)
    torch.manual_seed(4)
    drawn = [metered_score(random.score, network, sample, seed)[0] for seed in (0, 0, 1)]
    after = torch.rand(1)
    torch.manual_seed(4)
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(after, torch.rand(1))


def test_the_highest_scores_stay_and_the_earlier_of_equals() -> None:
    assert keep_highest([0.1, 5.0, 0.3, -1.0], 2) == [0, 1, 1, 0]
    assert keep_highest([1.0, 1.0, 1.0], 2) == [1, 1, 0]
    assert keep_highest([1.0, 2.0], 0) == [0, 0]
    assert keep_highest([1.0, 2.0], 2) == [1, 1]


# --- what starts from other runs ----------------------------------------------------------------------------

KEPT = [1, 0, 0, 1]
DENSE_MACS, DENSE_SECONDS = 1_000_000, 5.0


def a_parent(keep: list[int]) -> Parent:
    record = SimpleNamespace(keep=keep, train_macs=DENSE_MACS, wall_seconds=DENSE_SECONDS, status="ok")
    return Parent(record, lambda: small(4))


def child(method: str, keep: list[int] | None = None, **settings: Any) -> Any:
    parents = {"dense": a_parent([1, 1, 1, 1]), "gated": a_parent(keep or KEPT)}
    if method.startswith("scratch"):
        del parents["dense"]
    return a_run(method, settings=settings, parents=parents, duration="3ep")


def works_without_batch_norm(method: str) -> bool:
    return lack(method, arch_file("mlp-residual-4")) is None


SCORES = [slug for slug, family in families().items() if family == "scores" and works_without_batch_norm(slug)]


@pytest.mark.parametrize("method", SCORES)
def test_score_methods_keep_as_many_sections_as_gated_or_as_asked(method: str) -> None:
    assert sum(train(child(method)).outcome.keep) == 2
    asked = train(a_run(method, settings={"keep": 3}, parents={"dense": a_parent([1] * 4)}))
    assert sum(asked.outcome.keep) == 3


def test_asking_for_more_sections_than_there_are_is_refused() -> None:
    with pytest.raises(LayerpruneError, match="5 sections"):
        train(a_run("magnitude", settings={"keep": 5}, parents={"dense": a_parent([1] * 4)}))


def test_fine_tuning_starts_from_dense_and_from_its_bill() -> None:
    finished = train(child("magnitude"))
    steps_of_an_epoch, own = 4, 3 * 60 * (1_600 + 2 * 10_000 + 1_000)
    assert finished.progress.step == steps_of_an_epoch
    assert finished.progress.train_macs == DENSE_MACS + own
    assert finished.progress.wall_seconds > DENSE_SECONDS
    assert finished.progress.rows[0]["train_macs"] == DENSE_MACS


def test_scoring_is_on_the_bill_too() -> None:
    """60 examples forward and backward through the whole network."""
    finished = train(child("taylor"))
    assert finished.progress.rows[0]["train_macs"] == DENSE_MACS + 60 * 3 * 42_600


def test_scratch_has_gateds_sections_and_weights_of_its_own() -> None:
    run = child("scratch-e")
    finished = train(run)
    assert finished.outcome.keep == KEPT
    dense_start = run.fresh_network()
    scratch_start = run.fresh_network("initialisation from scratch")
    assert not torch.equal(dense_start.stem[1].weight, scratch_start.stem[1].weight)
    assert finished.progress.train_macs == 3 * 3 * 60 * (1_600 + 2 * 10_000 + 1_000)


def test_scratch_e_trains_for_the_same_epochs_and_scratch_b_for_the_same_macs() -> None:
    """42,600 MACs whole, 22,600 pruned: 3 epochs become int(3 * 1.885) = 5."""
    assert train(child("scratch-e")).progress.epoch == 3
    assert train(child("scratch-b")).progress.epoch == 5


def test_random_layouts_have_gateds_depth_or_the_asked_one_and_follow_the_seed() -> None:
    def layout(seed: int, **settings: Any) -> list[int]:
        return train(
            a_run("scratch-random", seed=seed, settings=settings, parents={"gated": a_parent(KEPT)})
        ).outcome.keep

    drawn = [layout(seed) for seed in range(8)]
    assert all(sum(keep) == 2 for keep in drawn)
    assert len(set(map(tuple, drawn))) > 2 and layout(3) == drawn[3]
    assert sum(layout(0, keep=3)) == 3


def a_question(names: list[str], keep_count: int) -> Question:
    return Question(names, 0, keep_count, None, lambda keep: 1.0)


@pytest.mark.parametrize(
    ("keep_count", "kept"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 2), (8, 3), (9, 3)]
)
def test_the_standard_shallower_network_keeps_the_first_of_every_stage(keep_count: int, kept: int) -> None:
    """ResNet-8, -14 or -20: 3, 6 or 9 sections, the nearest number wins."""
    names = [f"stage{stage}.{place}" for stage in (1, 2, 3) for place in range(3)]
    plan = shallower.plan(ScratchAtDepthSettings(), a_question(names, keep_count))
    assert plan == ControlPlan([int(place < kept) for _ in range(3) for place in range(3)], "fresh")


def test_the_standard_shallower_network_with_fixed_sections() -> None:
    names = ["stage1.0", "stage1.1", "stage1.2", "stage2.1", "stage2.2", "stage3.1", "stage3.2"]
    plan = shallower.plan(ScratchAtDepthSettings(), a_question(names, 4))
    assert plan.keep == [1, 1, 0, 1, 0, 1, 0]


def test_a_shallower_resnet_is_that_resnet() -> None:
    """ResNet-20 without what goes has the parameters and multiply-adds of ResNet-14 and of nothing else."""
    whole, standard = (build(arch, (3, 32, 32), 10, source(0)) for arch in ("resnet-20", "resnet-14"))
    surgery.remove_all_but(whole, [1, 1, 0] * 3)
    assert count_params(whole) == count_params(standard)
    assert count_macs(whole, (3, 32, 32)) == count_macs(standard, (3, 32, 32))


def test_by_index_replays_gateds_list_or_its_own() -> None:
    assert train(child("by-index")).outcome.keep == KEPT
    assert train(child("by-index", keep_list=[0, 1, 1, 1])).outcome.keep == [0, 1, 1, 1]


@pytest.mark.parametrize("length", [3, 5])
def test_a_replayed_list_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(LayerpruneError, match=f"{length} entries"):
        train(child("by-index", keep_list=[1] * length))


# --- every method, from settings to record ------------------------------------------------------------------

METHOD_SETTINGS = {
    "gated": "{target_depth: 2, nu: 0.05, warmup: 5it, check_interval: 4, checks: 1, theta_lr: 0.2}",
    "epsilon-resnet": "{epsilon: 0.1, start: 0.0}",
    "lacoot": "{keep: matched, strength: 0.05}",
}
PRESET = """
description: one small run of every method
training: {{duration: 2ep, batch_size: 128, lr: 0.01}}
finetune: {{duration: 1ep, lr: 0.005}}
data: {{download: false}}
datasets:
  digits:
    archs:
      mlp-residual-4:
        only: [{anywhere}]
      resnet-8:
        model: {{width: 4}}
        training: {{duration: 6ep, lr: 0.1}}
        methods: {{gated: {{settings: {{target_depth: null, nu: 0.0, theta0: 1.0}}}}}}
        only: [dense, gated, {normed}]
    methods:
{methods}
"""
VARIANTS = """
        variants:
          collapse: {settings: {target_depth: null, nu: 100.0, warmup: 0ep}}
          whole: {settings: {target_depth: null, nu: 0.0, theta0: 1.0}}
          diverge: {training: {lr: 1.0e+6}}
"""
COLUMNS = [
    "epoch",
    "step",
    "lr",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "sections_alive",
    "macs",
    "train_macs",
]
COLUMNS += ["wall_seconds"]


METHODS = [slug for slug, family in families().items() if family != "experiments"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A root with a preset of every method that there is; gives a function that makes a run."""
    folder = tmp_path_factory.mktemp("study")
    blocks = [f"      {slug}: {{settings: {METHOD_SETTINGS.get(slug, '{}')}}}" for slug in METHODS if slug != "gated"]
    blocks.append(f"      gated:\n        settings: {METHOD_SETTINGS['gated']}{VARIANTS.rstrip()}")
    (folder / "config").mkdir()
    somewhere = [slug for slug in METHODS if not works_without_batch_norm(slug)]
    anywhere = [slug for slug in METHODS if slug not in somewhere]
    text = PRESET.format(methods="\n".join(blocks), anywhere=", ".join(anywhere), normed=", ".join(somewhere))
    (folder / "config" / "every.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        yield run_and_read


def run_and_read(method: str, variant: str = "default") -> tuple[Record, list[dict[str, str]], RunKey]:
    arch = "mlp-residual-4" if works_without_batch_norm(method) else "resnet-8"
    key = RunKey("every", "digits", arch, method, variant, 0)
    made = running.run(key, "cpu", 1, lambda *told: None, lambda line: None)
    with open(paths.curves(key), newline="") as stream:
        return made, list(csv.DictReader(stream)), key


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_from_settings_to_a_record(study: Any, method: str) -> None:
    made, _, key = study(method)
    assert made.status in ("ok", "unpruned")
    assert made.equivalence_gap is not None and made.equivalence_gap < 1e-5
    assert len(made.keep) == len(made.removed_step) == made.sections_total
    assert [step is None for step in made.removed_step] == [bool(stays) for stays in made.keep]
    assert made.macs <= made.macs_dense and made.params <= made.params_dense and made.depth <= made.depth_dense
    assert made.val_accuracy > 0.2 and made.test_accuracy > 0.2  # chance is 0.1
    assert 0 < made.train_macs_own <= made.train_macs and 0 < made.wall_seconds_own <= made.wall_seconds
    assert made.steps_total == 10 * made.epochs
    assert all(path(key).is_file() for path in (paths.record, paths.curves, paths.arch, paths.weights))
    assert not paths.state(key).exists()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_the_agreed_curves(study: Any, method: str) -> None:
    made, rows, _ = study(method)
    thetas = [f"theta_{index:02d}" for index in range(made.sections_total)]
    assert list(rows[0]) in (COLUMNS, COLUMNS + thetas)
    epochs = [row for row in rows if float(row["epoch"]) % 1 == 0]
    assert [int(row["epoch"]) for row in epochs] == list(range(len(epochs)))
    assert (rows[0]["train_loss"], rows[0]["val_loss"], rows[0]["step"]) == ("", "", "0")
    assert all(row["train_loss"] and row["val_accuracy"] for row in epochs[1:])
    assert all(int(row["step"]) == 10 * float(row["epoch"]) for row in rows)
    assert not any(row["val_accuracy"] or row["wall_seconds"] for row in rows if row not in epochs)
    spent = [int(row["train_macs"]) for row in rows]
    assert spent == sorted(spent) and spent[-1] == made.train_macs
    for row in rows:
        alive = sum(row[name] != "" for name in thetas) if thetas[0] in row else int(row["sections_alive"])
        assert alive == int(row["sections_alive"])


def test_a_price_that_nothing_is_worth_collapses_and_trains_on(study: Any) -> None:
    made, rows, _ = study("gated", "collapse")
    assert (made.status, made.keep, made.depth) == ("collapsed", [0, 0, 0, 0], 1)
    assert max(made.removed_step) < 10 and made.steps_total == 20
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert losses[-1] < losses[0]
    assert made.equivalence_gap < 1e-5


def test_without_a_price_and_from_theta_one_nothing_goes(study: Any) -> None:
    made, _, _ = study("gated", "whole")
    assert (made.status, made.keep, made.macs) == ("unpruned", [1, 1, 1, 1], made.macs_dense)


def test_methods_that_decide_about_sections_say_so_as_a_run_that_removes_none_is_then_unpruned() -> None:
    trained = [name for name, family in families().items() if family == "trained"]
    found = {name for name in trained if import_module(module_name(name)).Method.aims_to_prune}
    assert found == {"gated", "sss", "hard-concrete", "epsilon-resnet", "gal", "lacoot"}
    assert set(trained) - found == {"dense", "stochastic-depth"}


def test_a_loss_that_is_no_number_ends_training_with_the_status_diverged(study: Any) -> None:
    made, rows, _ = study("gated", "diverge")
    assert made.status == "diverged" and "not finite" in made.reason
    assert (made.val_accuracy, made.test_accuracy, made.equivalence_gap) == (None, None, None)
    assert made.steps_total == 10 and [row["epoch"] for row in rows if row["wall_seconds"]] == ["0", "1"]


def test_a_run_whose_saved_network_computes_something_else_fails(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def shrink_wrongly(trained: Trained) -> SectionedNetwork:
        network = smaller_network(trained)
        next(network.head.parameters()).data.mul_(1.01)
        return network

    monkeypatch.setattr(import_module("layerprune.suite.run.write"), "smaller_network", shrink_wrongly)
    said: list[str] = []
    key = RunKey("every", "digits", "mlp-residual-4", "dense", "default", 1)
    made = running.run(key, "cpu", 1, lambda *told: None, said.append)
    assert made.status == "failed" and made.equivalence_gap > LARGEST_GAP and made.test_accuracy > 0.2
    assert re.fullmatch(r"the saved network computes other logits than the trained one: \S+ apart", made.reason)
    assert said[-1] == f"{key}: failed: {made.reason}"


def test_the_test_accuracy_is_that_of_the_saved_network(study: Any) -> None:
    made, _, key = study("gated")
    network = storage.load(paths.arch(key), paths.weights(key))
    assert evaluate(network, digits(), digits().test).accuracy == made.test_accuracy
    assert network.keep() == made.keep


def test_the_certificate_sees_a_wrong_fold(pruned: Trained) -> None:
    run = a_run("gated")
    left = smaller_network(pruned)
    assert certificate(run, pruned, left) < 1e-5
    left.stem[-1].bias.data += 0.01
    assert certificate(run, pruned, left) > 1e-4
