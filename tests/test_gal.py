"""GAL: its masks' step by hand, its two players' losses by their definition, and a search from a trained network."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import a_context, a_run, images
from test_methods import a_parent, small
from torch import nn
from torch.nn import functional

from layerprune.core.methods.trained import gal
from layerprune.core.networks.sections import mask_gates
from layerprune.core.settings import GalSettings
from layerprune.errors import SettingError
from layerprune.suite.run.measure import smaller_network
from layerprune.suite.run.train import train

SHAPE = (1, 4, 4)


def a_method(**settings: Any) -> gal.Method:
    """Ten steps an epoch, a search of one epoch of two."""
    network = small(3)
    context = a_context(network, teacher=small(3).eval().requires_grad_(False), teacher_macs=100)
    return gal.Method(GalSettings(**({"search": "1ep"} | settings)), network, context)


def test_two_steps_of_fista_go_where_a_calculation_by_hand_goes() -> None:
    point, last, momentum = gal.fista_step(torch.tensor([1.0]), torch.tensor([1.0]), 1.0, torch.tensor([0.5]), 0.2, 1.0)
    # 1 - 0.1 - 0.2 = 0.7; (t - 1) / t' = 0 in the first step.
    assert (point.item(), last.item()) == pytest.approx((0.7, 0.7))
    assert momentum == pytest.approx((1 + math.sqrt(5)) / 2)
    point, last, _ = gal.fista_step(point, last, momentum, torch.tensor([0.5]), 0.2, 1.0)
    ahead = (momentum - 1) / ((1 + math.sqrt(1 + 4 * momentum**2)) / 2)
    assert (point.item(), last.item()) == pytest.approx((0.4 + ahead * (0.4 - 0.7), 0.4))


def test_a_mask_never_turns_negative() -> None:
    point, last, _ = gal.fista_step(torch.tensor([0.1]), torch.tensor([0.1]), 1.0, torch.tensor([5.0]), 1.0, 1.0)
    assert (point.item(), last.item()) == (0, 0)


def test_the_students_loss_is_imitation_and_deceit_and_looks_at_no_label() -> None:
    method = a_method(imitation=2.0)
    x, logits = images(6, SHAPE), torch.randn(6, 10)
    method.gates(0, 6)
    told = method.losses(x, logits, torch.zeros(6, dtype=torch.int64))
    deceit = functional.softplus(-method.judge(logits)).squeeze(1)  # -log sigmoid(D)
    expected = 2.0 * ((method.context.teacher(x) - logits) ** 2).mean(1) + deceit
    assert torch.allclose(told, expected, atol=1e-5)
    assert torch.equal(told, method.losses(x, logits, torch.ones(6, dtype=torch.int64)))


def test_the_discriminator_takes_one_step_of_its_own_loss() -> None:
    method = a_method(discriminator_lr=0.1)
    x, logits = images(6, SHAPE), torch.randn(6, 10, requires_grad=True)
    weight = method.judge[0].weight
    before = weight.detach().clone()
    method.gates(0, 6)
    method.losses(x, logits, torch.zeros(6, dtype=torch.int64)).mean().backward()
    # log-sigmoid by hand: BCE(D(f_t), 1) + BCE(D(f_s), 0) + BCE(D(f_s), 1)
    teacher, student = method.judge(method.context.teacher(x)), method.judge(logits.detach())
    loss = functional.softplus(-teacher) + functional.softplus(student) + functional.softplus(-student)
    slope = torch.autograd.grad(loss.mean(), weight)[0]
    method.mask.grad = torch.zeros_like(method.mask)
    method.after_backward(0, torch.zeros(6), None)
    assert torch.allclose(weight, before - 0.1 * slope, atol=1e-6)
    assert torch.equal(weight, method.judge[0].weight) and not torch.equal(weight, before)


def test_the_teacher_and_the_discriminator_are_on_the_bill_while_the_search_lasts() -> None:
    method = a_method()
    method.gates(0, 6)
    judging = 10 * 128 + 128 * 256 + 256 * 128 + 128
    assert method.macs_beside == 100 + 9 * judging
    method.gates(10, 6)
    assert method.macs_beside == 0


def test_fine_tuning_is_on_the_labels_with_the_masks_held() -> None:
    method = a_method()
    gates = method.gates(10, 6)
    logits, labels = torch.randn(6, 10), torch.arange(6)
    assert not gates.requires_grad
    expected = functional.cross_entropy(logits, labels, reduction="none")
    assert torch.equal(method.losses(images(6, SHAPE), logits, labels), expected)
    method.after_backward(10, torch.zeros(6), None)
    method.after_step(10, 0.1)
    assert method.curve() == [1, 1, 1]


def test_sections_without_a_mask_leave_when_the_search_ends() -> None:
    method = a_method()
    method.last.copy_(torch.tensor([0.0, 0.3, 0.0]).view(3, 1, 1))
    assert method.removals(20) == []
    assert method.removals(10) == [0, 2]
    assert method.evaluation_gates().flatten().tolist() == pytest.approx([0, 0.3, 0])


# --- as published ---------------------------------------------------------------------------------------------------


def test_faithful_has_the_published_teacher_masks_and_price() -> None:
    plain, faithful = a_method(), a_method(faithful=True, penalty=0.5)
    assert plain.curve() == [1, 1, 1] and min(faithful.curve()) != 1
    assert not plain.teacher.training and faithful.teacher.training
    faithful.gates(0, 6)
    assert plain.penalty(0) is None
    assert faithful.penalty(0).item() == pytest.approx(0.5 * sum(map(abs, faithful.curve())))


def test_the_published_discriminator_is_linear_up_to_its_sigmoid_and_starts_small() -> None:
    plain, faithful = a_method(), a_method(faithful=True)
    assert isinstance(plain.judge[-1], nn.Identity) and any(isinstance(each, nn.ReLU) for each in plain.judge)
    assert [type(each) for each in faithful.judge] == [nn.Linear] * 4 + [nn.Sigmoid]
    weights = torch.cat([each.weight.flatten() for each in faithful.judge[:-1]])
    assert weights.std().item() == pytest.approx(0.01, rel=0.02) and weights.mean().abs() < 1e-3
    x = torch.randn(5, 10)
    product = faithful.judge[3].weight @ faithful.judge[2].weight @ faithful.judge[1].weight @ faithful.judge[0].weight
    assert torch.allclose(faithful.judge(x), torch.sigmoid(x @ product.T), atol=1e-6)


@pytest.mark.parametrize(("faithful", "least", "most"), [(False, 0.05, 1e9), (True, 0.0, 1e-3)])
def test_the_balance_of_deceit_and_imitation_is_another_one(faithful: bool, least: float, most: float) -> None:
    """The ratio of the two gradients at the student's logits, where these are a tenth off the teacher's."""
    method = a_method(faithful=faithful)
    target = torch.randn(64, 10)
    logits = (target + 0.1 * torch.randn(64, 10)).requires_grad_()
    (imitating,) = torch.autograd.grad((target - logits).square().mean(), logits)
    deceit = functional.binary_cross_entropy_with_logits(method.judge(logits), torch.ones(64, 1))
    (deceiving,) = torch.autograd.grad(deceit, logits)
    assert least < (deceiving.norm() / imitating.norm()).item() < most


def test_the_published_discriminator_moves_before_the_student_with_decay_and_a_falling_rate() -> None:
    method = a_method(faithful=True, discriminator_lr=0.1, search="2ep")  # 20 steps
    x, weight = images(6, SHAPE), method.judge[0].weight
    velocity, rates = torch.zeros_like(weight), []
    for step in range(20):
        logits = torch.randn(6, 10, requires_grad=True)
        before = weight.detach().clone()
        method.gates(step, 6)
        method.teacher.eval()  # its running statistics do not matter here, its outputs do
        teacher, student = method.judge(method.teacher(x)), method.judge(logits.detach())
        loss = functional.softplus(-teacher) + functional.softplus(student) + functional.softplus(-student)
        slope = torch.autograd.grad(loss.mean(), weight)[0] + 2e-4 * before
        velocity = 0.9 * velocity + slope
        told = method.losses(x, logits, torch.zeros(6, dtype=torch.int64))
        rates.append(((before - weight.detach()) / velocity).median().item())
        deceit = functional.softplus(-method.judge(logits)).squeeze(1)  # of the discriminator after its step
        assert torch.allclose(told, (method.target - logits).square().mean(1) + deceit, atol=1e-6)
        after = weight.detach().clone()
        method.mask.grad = torch.zeros_like(method.mask)
        method.after_backward(step, torch.zeros(6), None)
        assert torch.equal(weight, after)
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 6 + [0.0001] * 2, rel=0.02)


def published_masks(start: float, slopes: list[float], lr: float, penalty: float) -> list[float]:
    """The published optimizer, one number: gradients at the iterate, a step from the point ahead of it."""
    alpha, iterate, before, found = 1.0, start, start, []
    for count, slope in enumerate(slopes):
        ahead = iterate
        if count > 0:
            alpha, old = (1 + math.sqrt(1 + 4 * alpha**2)) / 2, alpha
            ahead = iterate + (old - 1) / alpha * (iterate - before)
        moved = ahead - lr * slope
        before, iterate = iterate, max(0.0, math.copysign(max(abs(moved) - lr * penalty, 0.0), moved))
        found.append(iterate)
    return found


def test_published_masks_move_once_an_epoch_from_the_point_ahead_of_where_the_gradient_was_taken() -> None:
    method = a_method(faithful=True, search="6ep", penalty=0.5)
    start, slopes, found = method.curve(), [-0.7, -0.4, 0.3, 0.9, -2.0, 0.1], []
    for step in range(60):
        method.gates(step, 6)
        method.gradient = torch.full_like(method.mask, slopes[step // 10])
        before = method.curve()
        method.after_step(step, 0.2)
        if step % 10 == 9:
            found.append(method.curve())
        else:
            assert method.curve() == before
    expected = [published_masks(value, slopes, 0.2, 0.5) for value in start]
    assert np.allclose(np.array(found).T, expected, atol=1e-6) and np.ptp(expected) > 0.1


@pytest.mark.parametrize(("steps", "moving"), [(10, [9]), (250, [199]), (400, [199, 399]), (391, [199])])
def test_published_masks_move_at_every_200th_step_of_an_epoch_or_at_its_last(steps: int, moving: list[int]) -> None:
    method = a_method(faithful=True)
    method.context = replace(method.context, steps_per_epoch=steps)
    assert [step for step in range(steps) if method._masks_move(step)] == moving
    assert [step - steps for step in range(steps, 2 * steps) if method._masks_move(step)] == moving


def test_a_search_without_a_step_is_refused() -> None:
    with pytest.raises(SettingError, match="search"):
        a_method(search="0ep")


@pytest.mark.parametrize("faithful", [False, True])
def test_a_search_from_a_trained_network_ends_in_a_network_that_its_masks_describe(faithful: bool) -> None:
    settings = {"search": "2ep", "penalty": 10.0 if faithful else 30.0, "mask_lr": 10.0, "faithful": faithful}
    slow = {"lr": 1e-3, "finetune": {"duration": "1ep", "lr": 1e-3}}  # at ten times that rate some networks diverge
    run = a_run("gal", settings=settings, parents={"dense": a_parent([1] * 4)}, **slow)
    finished = train(run)
    masks = finished.outcome.details["mask"]
    assert finished.progress.step == 3 * 4  # two epochs of search, one of fine-tuning
    assert finished.outcome.keep == [int(mask > 0) for mask in masks] != [1, 1, 1, 1]
    x = images(8, SHAPE)
    whole, smaller = finished.network.eval(), smaller_network(finished).eval()
    assert torch.allclose(whole(x, mask_gates(masks)), smaller(x), atol=1e-5)
