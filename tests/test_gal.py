"""GAL: its masks' step by hand, its two players' losses by their definition, and a search from a trained network."""

import math
from typing import Any

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


def test_faithful_brings_back_the_faults_of_the_published_code() -> None:
    plain, faithful = a_method(), a_method(faithful=True, penalty=0.5)
    assert plain.curve() == [1, 1, 1] and sorted(faithful.curve())[0] != 1
    assert not plain.teacher.training and faithful.teacher.training
    assert isinstance(plain.judge[-1], nn.Identity) and isinstance(faithful.judge[-1], nn.Sigmoid)
    faithful.gates(0, 6)
    assert plain.penalty(0) is None
    assert faithful.penalty(0).item() == pytest.approx(0.5 * sum(map(abs, faithful.curve())))
    faithful.gradient = torch.ones_like(faithful.mask)
    before = faithful.curve()
    faithful.after_step(8, 0.1)
    assert faithful.curve() == before
    faithful.after_step(9, 0.1)  # the last step of the epoch
    assert faithful.curve() != before


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
