"""A prior on weights that a closed section has none of (weight_prior: spike-and-slab), and the scale of costs."""

import math
from typing import Any

import pytest
import torch
from networks import a_context, a_run, a_trainer, make, no_losses
from torch.distributions import Normal, kl_divergence

from layerprune.core import surgery
from layerprune.core.methods.parts.spike_and_slab import SpikeAndSlab
from layerprune.core.methods.trained import gated
from layerprune.core.settings import GatedSettings
from layerprune.suite.run.train import train

THETA = [0.0, 0.25, 0.5, 1.0]
DECAY = 0.5


def squared_norms(network: Any, matrices_alone: bool = False) -> list[float]:
    """By loops over plain numbers."""
    found = []
    for section in network.sections:
        values = [p.detach() for p in section.branch.parameters() if p.dim() > 1 or not matrices_alone]
        found.append(math.fsum(number**2 for value in values for number in value.flatten().tolist()))
    return found


def silent(trainer: Any) -> Any:
    """A trainer whose loss says nothing: what moves weights and theta is decay and price."""
    trainer.method.losses = lambda images, logits, labels: 0 * logits.sum(1)
    return trainer


def a_silent_trainer(decayed: str = "all", **settings: Any) -> Any:
    values = {"weight_prior": "spike-and-slab", "consolidate_at": 1.0, "theta_lr": 1e-3, "nu": 0.1} | settings
    trainer = a_trainer(a_run("gated", settings=values, weight_decay=DECAY, momentum=0.0, decayed=decayed))
    trainer.method.theta.copy_(torch.tensor(THETA))
    return silent(trainer)


def step(trainer: Any, number: int = 1) -> None:
    for images, labels in list(trainer.job.batches.epoch(0))[:number]:
        trainer._step(images, labels)


# --- the price --------------------------------------------------------------------------------------------------


def test_an_open_section_pays_the_divergence_of_its_weights_from_the_slab() -> None:
    """N times the price is KL(N(W, s^2) || N(0, s0^2)), with lambda = 1 / (N s0^2), kappa what does not hang on W."""
    network, s0, s = make("mlp-residual-3", shape=(1, 4, 4)), 0.7, 0.05
    kappa = math.log(s0 / s) + (s**2 / s0**2 - 1) / 2
    context = a_context(network, weight_decay=1 / (1000 * s0**2))
    prices = SpikeAndSlab(network, context, kappa).prices()
    for section, price in zip(network.sections, prices.tolist(), strict=True):
        weights = torch.cat([each.detach().flatten() for each in section.branch.parameters()]).double()
        slab = Normal(torch.zeros_like(weights), s0)
        assert 1000 * price == pytest.approx(float(kl_divergence(Normal(weights, s), slab).sum()), rel=1e-5)


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_thetas_drift_is_price_kappa_and_norm_by_hand(decayed: str) -> None:
    trainer = a_silent_trainer(decayed, kappa=0.02, nu=0.1)
    network, examples = trainer.network, trainer.method.context.examples
    matrices_alone = decayed == "matrices"
    counts = [
        sum(p.numel() for p in section.branch.parameters() if p.dim() > 1 or not matrices_alone)
        for section in network.sections
    ]
    by_hand = [
        0.1 + count * 0.02 / examples + DECAY / 2 * square
        for count, square in zip(counts, squared_norms(network, matrices_alone), strict=True)
    ]
    assert trainer.method._drift().tolist() == pytest.approx(by_hand, rel=1e-5)
    step(trainer)
    moved = [max(theta - 1e-3 * drift, 0) for theta, drift in zip(THETA, by_hand, strict=True)]
    assert trainer.method.theta.tolist() == pytest.approx(moved, abs=1e-6)


def test_a_section_that_is_gone_has_no_norm() -> None:
    trainer = a_silent_trainer()
    surgery.remove(trainer.network, [1], trainer.optimizer)
    prices = trainer.method.weight_prior.prices().tolist()
    assert prices[1] == 0 and min(prices[0], prices[2], prices[3]) > 0
    step(trainer)


def test_kappa_without_its_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="kappa is the price of a weight under weight_prior: spike-and-slab"):
        GatedSettings(kappa=0.1)


# --- the decay --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_a_branchs_weights_decay_by_theta_and_all_others_fully(decayed: str) -> None:
    trainer = a_silent_trainer(decayed)
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    step(trainer)
    lr = trainer.lr_now(0)
    for name, value in trainer.network.named_parameters():
        share = THETA[int(name.split(".")[1])] if ".branch." in name else 1.0
        if decayed == "matrices" and value.ndim < 2:
            share = 0.0
        torch.testing.assert_close(value, (1 - lr * DECAY * share) * before[name], rtol=1e-6, atol=1e-9)


def test_at_theta_zero_weights_freeze_where_the_other_prior_lets_them_decay() -> None:
    for prior, frozen in (("spike-and-slab", True), ("independent", False)):
        trainer = a_silent_trainer(weight_prior=prior, check_interval=100)
        before = squared_norms(trainer.network)[0]
        step(trainer, 4)
        after = squared_norms(trainer.network)[0]
        assert trainer.method.theta[0] == 0
        assert (after == pytest.approx(before, rel=1e-7)) == frozen
        assert frozen or after < 0.98 * before


def test_open_gates_of_a_warm_up_leave_the_whole_decay() -> None:
    trainer = a_silent_trainer(warmup="2it", warmup_gates="open")
    weight = next(trainer.network.sections[0].branch.parameters())
    before = weight.detach().clone()
    step(trainer)
    torch.testing.assert_close(weight, (1 - trainer.lr_now(0) * DECAY) * before, rtol=1e-6, atol=1e-9)


def test_without_decay_and_kappa_both_priors_are_one() -> None:
    finished = [
        train(a_run("gated", settings={"weight_prior": prior, "nu": 0.02}, weight_decay=0.0, duration="2ep"))
        for prior in ("independent", "spike-and-slab")
    ]
    first, second = (each.network.state_dict() for each in finished)
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- the scale of costs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", ["uniform", "macs", "params"])
@pytest.mark.parametrize("arch", ["lenet5", "mlp-residual-4"])
def test_the_price_of_a_network_is_nu_for_all_sections_together(arch: str, cost: str) -> None:
    network = make(arch)
    of_section, of_network = (
        gated.Method(GatedSettings(nu=0.3, cost=cost, warmup="0ep", cost_scale=scale), network, a_context(network))
        for scale in ("section", "network")
    )
    assert float(of_network.prices.sum()) == pytest.approx(0.3, rel=1e-6)
    torch.testing.assert_close(of_network.prices * len(network.sections), of_section.prices)


def test_no_second_forward_pass_is_asked_for() -> None:
    network = make("mlp-residual-4", shape=(1, 4, 4))
    settings = GatedSettings(weight_prior="spike-and-slab", warmup="0ep", consolidate_at=1.0)
    method = gated.Method(settings, network, a_context(network, weight_decay=DECAY))
    method.start_epoch(0)
    gates = method.gates(0, 10)
    network(torch.zeros(10, 1, 4, 4), gates).sum().backward()
    method.after_backward(0, torch.zeros(10), no_losses)
    assert method.phase(0) is not None
