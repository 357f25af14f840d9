"""The training loop: its schedule, its exact books, its seeds, and no copy to the host inside a step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import a_run, a_trainer, digits, images, make, random_data
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from layerprune.core import surgery
from layerprune.core.data.batches import evaluation_batches
from layerprune.core.gates.estimators import ESTIMATORS
from layerprune.core.measure import MacMeter
from layerprune.core.methods import families
from layerprune.core.networks.sections import CLOSED
from layerprune.core.settings import FinetuneSettings, TrainingSettings, warmup_steps
from layerprune.core.training import loop
from layerprune.core.training.averaging import WeightAverage
from layerprune.core.training.evaluate import BATCH, evaluate
from layerprune.core.training.schedule import learning_rate
from layerprune.suite.run.train import train

TRAINED = [slug for slug, family in families().items() if family == "trained"]

# --- learning rate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("cosine", {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.4, 54: 0.2, 103: 0.4 * 0.5 * (1 - math.cos(math.pi / 100))}),
        ("step", {0: 0.1, 3: 0.4, 4: 0.4, 53: 0.4, 54: 0.04, 78: 0.04, 79: 0.004, 103: 0.004}),
        ("linear", {0: 0.1, 3: 0.4, 4: 0.4, 29: 0.3, 54: 0.2, 103: 0.004}),
        ("constant", {0: 0.1, 2: 0.3, 4: 0.4, 103: 0.4}),
    ],
)
def test_the_learning_rate_rises_linearly_and_then_follows_its_schedule(schedule: str, rates: dict) -> None:
    """Peak 0.4, four steps of warm-up, a hundred steps after it."""
    settings = TrainingSettings(lr=0.4, schedule=schedule, lr_warmup="4it")
    assert {step: learning_rate(settings, step, 104, 4) for step in rates} == pytest.approx(rates)


def test_without_a_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert learning_rate(FinetuneSettings(lr=0.3), 0, 10) == 0.3


def test_the_warm_up_is_given_in_epochs_or_steps() -> None:
    assert warmup_steps("2ep", 7, 70) == 14
    assert warmup_steps("3it", 7, 70) == 3


def test_or_as_a_percentage_of_the_training() -> None:
    assert warmup_steps("20%", 7, 99) == 19
    rates = [learning_rate(TrainingSettings(lr=0.4, schedule="linear"), step, 10, 2) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])
    for wrong in ("20 %", "100%", "0.2", "20"):
        with pytest.raises(ValueError, match="lr_warmup"):
            TrainingSettings(lr_warmup=wrong)


def test_the_optimizer_gets_the_scheduled_rate() -> None:
    finished = train(a_run("dense", lr=0.02, lr_warmup="4it", schedule="constant", duration="6it"))
    assert [row["lr"] for row in finished.progress.rows] == [None, 0.02, 0.02]


# --- rows of curves within an epoch ---------------------------------------------------------------------------

CHECKED = {"nu": 20.0, "theta_lr": 0.004, "check_interval": 2, "checks": 1, "consolidate_at": 1.0}
"""With batches of 4, 15 steps an epoch: theta falls to 0, and checks are at even steps."""


def test_theta_and_sections_are_recorded_at_checks_within_an_epoch_too() -> None:
    rows = train(a_run("gated", settings=CHECKED, duration="2ep", batch_size=4)).progress.rows
    assert [row["step"] for row in rows] == [0, *range(2, 15, 2), 15, *range(16, 30, 2), 30]
    assert [row["epoch"] for row in rows] == [row["step"] / 15 for row in rows]
    within = [row for row in rows if row["step"] % 15]
    assert within[0].keys() == {"epoch", "step", "sections_alive", "macs", "train_macs"} | {
        f"theta_{index:02d}" for index in range(4)
    }
    falling = [row["theta_00"] for row in rows[:4]]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == 4
    costs = [row["train_macs"] for row in rows]
    assert costs == sorted(costs) and len(set(costs)) == len(costs)
    for row in within:
        assert row["sections_alive"] == sum(row[f"theta_{index:02d}"] is not None for index in range(4))
    assert rows[-1]["sections_alive"] < 4 and within[-1]["sections_alive"] < 4


def test_a_long_training_has_no_more_than_a_hundred_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHORT_ROWS", 5)
    rows = train(a_run("gated", settings=CHECKED, duration="2ep", batch_size=4)).progress.rows
    assert [row["step"] for row in rows] == [0, 6, 12, 15, 22, 28, 30]


def test_a_method_without_checks_has_a_row_an_epoch() -> None:
    rows = train(a_run("sss", duration="2ep", batch_size=4)).progress.rows
    assert [row["step"] for row in rows] == [0, 15, 30]


# --- books --------------------------------------------------------------------------------------------------


def test_evaluation_counts_every_example_of_a_ragged_last_batch_once() -> None:
    data = random_data(validation=BATCH + 37)
    network = make("mlp-residual-2", shape=(1, 4, 4))
    score = evaluate(network, data, data.validation)
    logits, labels = [], []
    for x, y in evaluation_batches(data.validation, data.mean, data.std, 1):
        logits.append(network(x).detach()), labels.append(y)
    logits, labels = torch.cat(logits), torch.cat(labels)
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    assert score.accuracy == right / (BATCH + 37)
    assert score.loss == pytest.approx(float(functional.cross_entropy(logits.double(), labels)), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_puts_the_mode_back(training: bool) -> None:
    network, data = make("mlp-residual-2", shape=(1, 4, 4)).train(training), random_data()
    evaluate(network, data, data.validation)
    assert network.training is training


def test_training_macs_are_three_forward_passes_of_every_example_of_every_epoch() -> None:
    """60 examples in batches of 16: the last one has 12."""
    finished = train(a_run("dense", duration="2ep"))
    assert finished.progress.step == 8
    assert finished.progress.train_macs == 2 * 60 * 3 * (16 * 100 + 4 * 100 * 100 + 100 * 10)


def test_the_train_loss_is_the_mean_over_examples_and_not_over_batches() -> None:
    run = a_run("dense", lr=1e-30)
    network = run.fresh_network()
    whole = evaluate(network, run.data, run.data.train)
    assert train(run).progress.rows[1]["train_loss"] == pytest.approx(whole.loss, rel=1e-5)


def test_extra_forward_passes_of_an_estimator_are_paid_for() -> None:
    spent = {}
    for estimator in ("two_sided", "finite_difference"):
        settings = {"estimator": estimator, "consolidate_at": 1.0, "warmup": "0ep", "theta_lr": 1e-9}
        spent[estimator] = train(a_run("gated", settings=settings)).progress.train_macs
    assert spent["finite_difference"] * 3 == spent["two_sided"] * 4


def test_closed_and_removed_sections_cost_nothing() -> None:
    network = make("mlp-residual-3", shape=(1, 4, 4))
    meter = MacMeter(network)
    assert meter.forward_macs() == 1_600 + 30_000 + 1_000
    assert meter.forward_macs([None, CLOSED, None]) == 1_600 + 20_000 + 1_000
    network.sections[0].branch = None
    assert meter.forward_macs([CLOSED, CLOSED, None]) == 1_600 + 10_000 + 1_000


def test_training_for_a_number_of_steps_stops_within_an_epoch() -> None:
    finished = train(a_run("dense", duration="6it"))
    assert (finished.progress.step, finished.progress.epoch) == (6, 2)
    assert finished.progress.rows[-1]["step"] == 6
    assert finished.progress.train_macs == (60 + 2 * 16) * 3 * 42_600


def test_a_network_learns() -> None:
    rows = train(a_run("dense", duration="30ep", lr=0.02)).progress.rows
    assert rows[-1]["train_loss"] < 0.1 * rows[1]["train_loss"]


def test_bf16_learns_as_well_as_fp32() -> None:
    """Lenet-300-100 on digits: accuracies within two points, logits within bfloat16's three digits."""
    settings = {"duration": "6ep", "batch_size": 64, "lr": 0.02}
    accuracy = {}
    for precision in ("fp32", "bf16"):
        run = a_run("dense", digits(), "lenet-300-100", precision=precision, **settings)
        network = train(run).network
        accuracy[precision] = evaluate(network, run.data, run.data.test).accuracy
        in_format = evaluate(network, run.data, run.data.test, precision="bf16")
        assert in_format.accuracy == pytest.approx(accuracy[precision], abs=0.01)
    assert accuracy["fp32"] > 0.9 and accuracy["bf16"] == pytest.approx(accuracy["fp32"], abs=0.02)


def test_bf16_computes_in_bf16_and_keeps_weights_in_float32() -> None:
    trainer = a_trainer(a_run("gated", precision="bf16"))
    seen = []
    hook = trainer.network.chain[0].branch[1].register_forward_hook(lambda *told: seen.append(told[2].dtype))
    trainer._step(*next(trainer.job.batches.epoch(0)))
    hook.remove()
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in trainer.network.parameters()} == {torch.float32}


def test_a_step_is_sgd_with_momentum_and_weight_decay() -> None:
    """Against the rule written out: v <- mu v + g + lambda w, w <- w - lr v."""
    run = a_run("dense", lr=0.05, weight_decay=0.01, schedule="constant")
    trainer = a_trainer(run)
    weights = [each.detach().clone() for each in trainer.network.parameters()]
    velocity = [torch.zeros_like(each) for each in weights]
    reference = run.fresh_network()
    for _, (x, y) in zip(range(3), trainer.job.batches.epoch(0), strict=False):
        for mine, weight in zip(reference.parameters(), weights, strict=True):
            mine.data.copy_(weight)
        slopes = torch.autograd.grad(functional.cross_entropy(reference(x), y), list(reference.parameters()))
        for index, slope in enumerate(slopes):
            velocity[index] = 0.9 * velocity[index] + slope + 0.01 * weights[index]
            weights[index] = weights[index] - 0.05 * velocity[index]
        trainer._step(x, y)
    for mine, theirs in zip(weights, trainer.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-6)


def test_decay_on_matrices_spares_biases_and_normalisation() -> None:
    """With gradients of zero, decay is all that moves a weight."""
    trainer = a_trainer(a_run("dense", lr=0.05, weight_decay=0.01, decayed="matrices", schedule="constant"))
    before = {name: each.detach().clone() for name, each in trainer.network.named_parameters()}
    for each in trainer.network.parameters():
        each.grad = torch.zeros_like(each)
    trainer.optimizer_lr.fill_(0.05)
    trainer.optimizer.step()
    moved = {
        name: float((each.detach() - before[name]).abs().sum()) for name, each in trainer.network.named_parameters()
    }
    assert {name for name, change in moved.items() if change == 0} >= {name for name in moved if "bias" in name}
    for name, each in trainer.network.named_parameters():
        expected = before[name] * (1 - 0.05 * 0.01) if each.ndim > 1 else before[name]
        torch.testing.assert_close(each.detach(), expected, msg=name)


@pytest.mark.parametrize("method", ["gated", "sss", "hard-concrete"])
def test_methods_get_the_rate_as_exactly_as_a_number_would_be(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to single precision it would change, in the last digit, what a method multiplies by it."""
    trainer = a_trainer(a_run(method, lr=0.1, schedule="constant"))
    given: list[float] = []
    monkeypatch.setattr(trainer.method, "after_step", lambda step, lr: given.append(float(lr)))
    trainer._step(*next(trainer.job.batches.epoch(0)))
    assert given == [0.1] and torch.tensor(0.1).item() != 0.1


def test_every_group_of_weights_follows_the_schedule() -> None:
    trainer = a_trainer(a_run("dense", lr=0.4, lr_warmup="4it", decayed="matrices"))
    trainer._step(*next(trainer.job.batches.epoch(0)))
    assert [float(group["lr"]) for group in trainer.optimizer.param_groups] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("method", ["dense", "gated"])
def test_label_smoothing_mixes_the_loss_with_that_of_the_uniform_target(method: str) -> None:
    trainer = a_trainer(a_run(method, label_smoothing=0.3))
    logits, labels = torch.randn(5, 10), torch.arange(5)
    plain = functional.cross_entropy(logits, labels, reduction="none")
    uniform = -functional.log_softmax(logits, 1).mean(1)
    torch.testing.assert_close(trainer.method.losses(None, logits, labels), 0.7 * plain + 0.3 * uniform)


def test_the_average_of_weights_is_the_one_written_out_and_replaces_them_at_the_end() -> None:
    run = a_run("dense", lr=0.05, average=0.75, duration="5it", schedule="constant")
    plain = a_trainer(a_run("dense", lr=0.05, duration="5it", schedule="constant"))
    average: list[Tensor] = []
    for x, y in (batch for epoch in range(3) for batch in plain.job.batches.epoch(epoch)):
        if plain.progress.step == 5:
            break
        plain._step(x, y)
        now = [each.detach().clone() for each in plain.network.parameters()]
        average = [0.75 * old + 0.25 * new for old, new in zip(average or now, now, strict=True)]
        plain.progress.epoch = plain.progress.step // plain.job.batches.steps_per_epoch
    trained = train(run).network
    for mine, theirs in zip(average, trained.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_the_average_of_weights_follows_removals_and_running_statistics() -> None:
    network = make("resnet-8", shape=(3, 8, 8))
    average = WeightAverage(network, 0.5)
    average.update()
    surgery.remove(network, [1])
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(2.0)
    expected = {name: value - 1 for name, value in network.state_dict().items() if value.is_floating_point()}
    average.update()
    assert average.state().keys() == expected.keys()
    average.copy_to(network)
    for name, value in expected.items():
        torch.testing.assert_close(network.state_dict()[name], value, msg=name)


# --- seeds --------------------------------------------------------------------------------------------------


def seen(method: str, seed: int = 0, **settings: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Initial weights and the batches of the second epoch."""
    trainer = a_trainer(a_run(method, seed=seed, settings=settings))
    return trainer.network.state_dict(), [labels for _, labels in trainer.job.batches.epoch(1)]


@pytest.mark.parametrize("method", [slug for slug in TRAINED if slug not in ("dense", "gal")])  # gal starts from dense
def test_methods_of_one_seed_share_initial_weights_and_batches(method: str) -> None:
    (weights, batches), (others, other_batches) = seen("dense"), seen(method)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert all(torch.equal(*pair) for pair in zip(batches, other_batches, strict=True))


def test_another_seed_gives_other_weights_and_batches() -> None:
    (weights, batches), (others, other_batches) = seen("dense", 0), seen("dense", 1)
    assert not torch.equal(weights["head.weight"], others["head.weight"])
    assert not all(torch.equal(*pair) for pair in zip(batches, other_batches, strict=True))


@pytest.mark.parametrize("method", TRAINED)
def test_the_same_seed_gives_the_same_weights_bit_for_bit(method: str) -> None:
    weights = []
    for number in (0, 0, 1):
        torch.manual_seed(len(weights))  # the global stream must not matter
        weights.append(train(a_run(method, seed=number, duration="2ep")).network.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


# --- the device is never waited for -------------------------------------------------------------------------


class _Reads(TorchDispatchMode):
    """Refuses the one operation through which a tensor's value reaches Python."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), named: dict | None = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default, "a value was copied to the host"
        return function(*arguments, **(named or {}))


@contextmanager
def no_copy_to_the_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also refuses the methods that copy whole tensors, which on a CPU pass by the dispatcher."""

    def refuse(*given: Any, **named: Any) -> None:
        raise AssertionError("a tensor was copied to the host")

    with monkeypatch.context() as patch, _Reads():
        for name in ("tolist", "numpy", "cpu", "item", "__array__", "nonzero"):
            patch.setattr(torch.Tensor, name, refuse)
        yield


STEPS = [(method, {}) for method in TRAINED if method != "gated"]
STEPS += [("epsilon-resnet", {"start": 0.0, "patience": "2it"})]
STEPS += [("gated", {"drawn_share": 0.25, "warmup": "0ep", "consolidate_at": 1.0})]
STEPS += [("gated", {"estimator": name, "warmup": "0ep", "consolidate_at": 1.0}) for name in ESTIMATORS]


@pytest.mark.parametrize(("method", "settings"), STEPS, ids=lambda part: part if isinstance(part, str) else None)
def test_a_step_copies_nothing_to_the_host(monkeypatch: pytest.MonkeyPatch, method: str, settings: dict) -> None:
    trainer = a_trainer(a_run(method, settings=settings))
    batches = list(trainer.job.batches.epoch(0))
    with no_copy_to_the_host(monkeypatch):
        for x, y in batches:
            trainer._step(x, y)
    assert trainer.progress.step == len(batches)


@pytest.mark.parametrize("copy", [float, bool, lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.item()])
def test_a_copy_to_the_host_would_be_seen(monkeypatch: pytest.MonkeyPatch, copy: Any) -> None:
    with pytest.raises(AssertionError, match="copied"), no_copy_to_the_host(monkeypatch):
        copy(torch.ones(()) * 2)


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "settings"), STEPS, ids=lambda part: part if isinstance(part, str) else None)
def test_a_step_on_a_gpu_synchronises_nothing(method: str, settings: dict) -> None:
    device = torch.device("cuda")
    run = a_run(method, data=random_data().to(device), settings=settings)
    trainer = a_trainer(replace(run, device=device))
    batches = list(trainer.job.batches.epoch(0))
    trainer._step(*batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x, y in batches[1:]:
            trainer._step(x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- when numbers run away ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", TRAINED)
def test_training_stops_at_the_end_of_the_epoch_whose_loss_is_no_number(method: str) -> None:
    run = a_run(method, duration="5ep", lr=1e6, finetune={"duration": "5ep", "lr": 1e6})
    progress = train(run).progress
    assert progress.diverged
    assert progress.epoch < 5 and len(progress.rows) == progress.epoch + 1
    assert not math.isfinite(progress.rows[-1]["train_loss"])
    assert progress.rows[-1]["val_accuracy"] is None


def test_gates_of_the_evaluation_are_those_of_the_network_that_would_be_left() -> None:
    trainer = a_trainer(a_run("gated"))
    trainer.method.theta.copy_(torch.tensor([0.9, 0.1, 0.5, 0.4]))
    x = images(3, (1, 4, 4))
    expected = trainer.network(x, [None, CLOSED, None, CLOSED])
    torch.testing.assert_close(trainer.network(x, trainer.method.evaluation_gates()), expected)
