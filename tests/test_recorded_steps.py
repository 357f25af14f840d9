"""Recorded steps (engine: graphs) against eager ones, and whether a record of one step could stand for the others."""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import a_dense_parent, a_run, a_trainer, random_data
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layerprune.core.data.dataset import DataSet
from layerprune.core.methods import families
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.training.cast_weights import CastWeights
from layerprune.core.training.loop import Trainer
from layerprune.suite.run.train import train

TRAINED = sorted(slug for slug, family in families().items() if family == "trained")
RECORDED = [slug for slug in TRAINED if slug not in ("gal", "stochastic-depth")]
SETTINGS: dict[str, dict[str, Any]] = {
    "gated": {
        "warmup": "6it",
        "nu": 3.0,
        "theta_lr": 2.0,
        "check_interval": 4,
        "checks": 1,
        "theta_lr_decay": 0.5,
        "price_ramp": 0.1,
    },
    "hard-concrete": {"ramp": 0.9, "gate_lr": 5.0},
    "epsilon-resnet": {"start": 0.4, "check_interval": 2},
}
GATED_ON_RESNET = {"nu": 20.0, "warmup": "4it", "theta_lr": 1.0, "check_interval": 2, "checks": 1, "drawn_share": 0.5}


SPIKE_AND_SLAB = SETTINGS["gated"] | {"weight_prior": "spike-and-slab", "kappa": 0.01}


def a_changing_trainer(
    method: str,
    device: str = "cpu",
    data: DataSet | None = None,
    settings: dict[str, Any] | None = None,
    **training: Any,
) -> Trainer:
    """Whose rate, gates and penalties change from step to step."""
    training = {"lr": 0.03, "lr_warmup": "3it", "nesterov": True, "duration": "3ep"} | training
    run = a_run(method, (data or random_data()).to(device), settings=settings or SETTINGS.get(method), **training)
    return a_trainer(replace(run, device=torch.device(device)))


# --- the same numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", TRAINED)
def test_they_give_the_same_weights_bit_for_bit(method: str, precision: str) -> None:
    """Through removals, ragged batches, and phases that the host decides; under bf16 weights are cast all at once."""
    rows, weights = [], []
    for engine in ("eager", "graphs"):
        trained = train(
            a_run(
                method,
                settings=SETTINGS.get(method),
                lr=0.03,
                lr_warmup="3it",
                duration="4ep",
                engine=engine,
                precision=precision,
            )
        )
        rows.append([{name: row[name] for name in row if name != "wall_seconds"} for row in trained.progress.rows])
        weights.append(trained.network.state_dict())
    assert rows[0] == rows[1]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_they_do_so_on_convolutions_that_leave(precision: str) -> None:
    kept, weights = [], []
    for engine in ("eager", "graphs"):
        data = random_data(shape=(3, 8, 8))
        how = {"augment": "crop-flip", "crop": 1, "flip": "alternating", "precision": precision, "duration": "3ep"}
        trained = train(a_run("gated", data, "resnet-14", settings=GATED_ON_RESNET, engine=engine, **how))
        kept.append(trained.outcome.keep)
        weights.append(trained.network.state_dict())
    assert kept[0] == kept[1] and 0 in kept[0]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("settings", [{"keep": 2}, {"keep": 2, "distill": 0.5}, {"keep": 1, "removal": "iterative"}])
def test_they_do_so_in_fine_tuning(settings: dict[str, Any]) -> None:
    weights, phases = [], []
    for engine in ("eager", "graphs"):
        parents = {"dense": a_dense_parent("mlp-residual-4", random_data())}
        finetune = {"duration": "3ep", "lr": 0.01}
        task = a_run("magnitude", settings=settings, parents=parents, finetune=finetune, engine=engine)
        trained = train(task)
        weights.append(trained.network.state_dict())
        phases.append(trained.start.method.phase(0))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])
    assert None not in phases


def test_updates_of_batch_normalisation_are_counted_wherever_somebody_looks() -> None:
    data = random_data(shape=(3, 8, 8))
    run = a_run("dense", data, "resnet-14", engine="graphs", duration="3ep")
    trainer = a_trainer(run)
    trainer.recorded.start_epoch(0)
    for steps in (1, 2, 3):
        trainer._recorded_step()
        stored = trainer._state()["network"]
        assert {int(value) for name, value in stored.items() if name.endswith("num_batches_tracked")} == {steps}
    trainer._recorded_step()
    trainer.progress.removed_step = [None] * len(trainer.network.sections)
    trainer._remove([1])
    assert {int(value) for name, value in trainer.network.named_buffers() if "num_batches" in name} == {4}


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_the_recordable_batch_is_the_one_of_its_place(augment: str) -> None:
    batches = a_changing_trainer("dense", augment=augment).job.batches
    for epoch in (0, 3):
        batches.start_recordable_epoch(epoch)
        for place, (images, labels) in enumerate(batches.epoch(epoch)):
            found = batches.recordable(torch.tensor(place), batches.examples_in(place))
            assert torch.equal(found[0], images) and torch.equal(found[1], labels)


def casts(arch: str) -> tuple[int, int]:
    """Operations of a recorded step in bf16 that cast one tensor, and many at once."""
    run = a_run("dense", random_data(shape=(3, 8, 8)), arch, engine="graphs", precision="bf16", duration="3ep")
    trainer = a_trainer(run)
    trainer.recorded.start_epoch(0)
    trainer._recorded_step()
    with Log([trainer.recorded.place]) as log:
        trainer._recorded_step()
    names = [line[0] for line in log.lines]
    return names.count("aten._to_copy.default"), names.count("aten._foreach_copy_.default")


def test_a_deeper_network_needs_no_more_casts() -> None:
    assert casts("resnet-8") == casts("resnet-14") and casts("resnet-8")[1] == 2


def test_gradients_of_copies_are_added_to_those_of_a_penalty() -> None:
    layer = torch.nn.Linear(3, 2)
    copies, x = CastWeights(layer), torch.ones(4, 3, dtype=torch.bfloat16)
    copies.refresh()
    with copies.used():
        loss = layer(x).sum()
    (loss + layer.weight.square().sum()).backward()
    copies.collect()
    assert torch.equal(layer.weight.grad, 2 * layer.weight + 4) and torch.equal(layer.bias.grad, torch.full((2,), 4.0))
    assert layer.weight.dtype == torch.float32


# --- one record for all steps of a phase --------------------------------------------------------------------------


class Log(TorchDispatchMode):
    """Every operation of a step: its name, its plain arguments, and the addresses of tensors from before the step.

    `told` are scalars that the host writes before the step; other scalars from outside are Python's numbers.
    """

    def __init__(self, told: list[Tensor]) -> None:
        super().__init__()
        self.lines: list[tuple] = []
        self._told = set(map(id, told))
        self._own: dict[int, Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), named: dict | None = None) -> Any:
        named = named or {}
        self.lines.append((str(function), *map(self._seen, arguments), *((k, self._seen(v)) for k, v in named.items())))
        made = function(*arguments, **named)
        for each in made if isinstance(made, list | tuple) else [made]:
            if isinstance(each, Tensor):
                self._own.setdefault(id(each), each)  # kept, so that no address is used twice
        return made

    def _seen(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            shape = tuple(value.shape), value.dtype
            if id(value) in self._own:
                return shape
            is_number = value.ndim == 0 and id(value) not in self._told
            return (*shape, float(value)) if is_number else (*shape, value.data_ptr())
        if isinstance(value, list | tuple):
            return tuple(map(self._seen, value))
        return "generator" if isinstance(value, torch.Generator) else str(value)


def logs_by_phase(trainer: Trainer) -> dict[Hashable, list[list[tuple]]]:
    """Of each phase, batch size and set of sections the logs of its steps."""
    found: dict[Hashable, list[list[tuple]]] = {}
    trainer.progress.removed_step = [None] * len(trainer.network.sections)
    compute = trainer.recorded._compute

    def logged(number: int, examples: int) -> Any:
        log = Log([trainer.lr, trainer.optimizer_lr, trainer.recorded.place, *vars(trainer.method).values()])
        with log:
            computed = compute(number, examples)
        key = trainer.method.phase(number), examples, tuple(trainer.network.keep())
        found.setdefault(key, []).append(log.lines)
        return computed

    trainer.recorded._compute = logged
    for _ in range(3):
        trainer._epoch()
    return found


@pytest.mark.parametrize("method", RECORDED)
def test_all_steps_of_a_phase_do_the_same_with_the_same_tensors(method: str) -> None:
    found = logs_by_phase(a_changing_trainer(method, engine="graphs"))
    assert sum(len(logs) for logs in found.values()) == 12
    assert any(len(logs) > 2 for logs in found.values())
    for (phase, *_), logs in found.items():
        assert phase is not None
        assert all(log == logs[0] for log in logs)


def test_a_prior_on_weights_is_recorded_as_it_is_computed() -> None:
    weights = []
    for engine in ("eager", "graphs"):
        trained = train(a_run("gated", settings=SPIKE_AND_SLAB, lr=0.03, duration="4ep", engine=engine))
        weights.append(trained.network.state_dict())
        assert 0 in trained.outcome.keep
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for logs in logs_by_phase(a_changing_trainer("gated", settings=SPIKE_AND_SLAB, engine="graphs")).values():
        assert all(log == logs[0] for log in logs)
    assert waits(a_changing_trainer("gated", settings=SPIKE_AND_SLAB, engine="graphs")) == set()


class _Rebinding(TrainingMethod):
    """Its memory is a new tensor after each step, which a record would not read."""

    def phase(self, step: int) -> Hashable:
        return ()

    def after_step(self, step: int, lr: Tensor) -> None:
        self.memory = getattr(self, "memory", torch.zeros(())) * 0.9 + lr


def test_a_step_that_leaves_its_tensors_would_be_seen() -> None:
    trainer = a_changing_trainer("dense", engine="graphs")
    trainer.method = _Rebinding(None, trainer.network, trainer.method.context)
    assert any(log != logs[0] for logs in logs_by_phase(trainer).values() for log in logs)


WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "lift_fresh"}
"""Operations whose result the host needs, or that bring numbers from it: neither can be recorded."""


def waits(trainer: Trainer) -> set[str]:
    lines = [line for logs in logs_by_phase(trainer).values() for log in logs for line in log]
    return {line[0] for line in lines if line[0].split(".")[1] in WAITING}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", RECORDED)
def test_no_step_waits_for_the_device(method: str, precision: str) -> None:
    assert waits(a_changing_trainer(method, engine="graphs", precision=precision)) == set()


class _Asking(TrainingMethod):
    """Looks at the device in each step."""

    def phase(self, step: int) -> Hashable:
        return ()

    def after_step(self, step: int, lr: Tensor) -> None:
        self.rate = float(lr)


class _Telling(_Asking):
    """Brings a number to the device in each step."""

    def after_step(self, step: int, lr: Tensor) -> None:
        self.rate = torch.tensor(3.0)


@pytest.mark.parametrize("method", [_Asking, _Telling])
def test_a_step_that_waits_would_be_seen(method: type[TrainingMethod]) -> None:
    trainer = a_changing_trainer("dense", engine="graphs")
    trainer.method = method(None, trainer.network, trainer.method.context)
    assert waits(trainer) != set()


class _Frozen(TrainingMethod):
    """Its penalty has a number from the host, which a record would repeat."""

    def phase(self, step: int) -> Hashable:
        return ()

    def penalty(self, step: int) -> Tensor:
        return (step + 1) * next(self.network.parameters()).sum()


def test_a_number_that_a_record_would_repeat_would_be_seen() -> None:
    losses = []
    for engine in ("eager", "graphs"):
        trainer = a_changing_trainer("dense", engine=engine)
        trainer.method = _Frozen(None, trainer.network, trainer.method.context)
        trainer._epoch()
        losses.append(trainer.progress.rows[-1]["train_loss"])
    assert losses[0] != losses[1]


def test_a_method_that_says_nothing_of_phases_is_not_recorded() -> None:
    class Silent(TrainingMethod):
        pass

    context = a_changing_trainer("dense").method.context
    assert Silent(None, None, context).phase(0) is None
    assert TrainingMethod(None, None, context).phase(0) is not None


def test_what_needs_the_host_is_computed_eagerly() -> None:
    assert a_changing_trainer("dense").recorded is None
    assert a_changing_trainer("dense", engine="graphs", average=0.9).recorded is None
    for settings in ({"watch": True}, {"estimator": "disarm"}, {"estimator": "finite_difference"}):
        trainer = a_trainer(a_run("gated", settings=settings, engine="graphs"))
        assert trainer.recorded is not None and trainer.method.phase(0) is None


# --- on a GPU -----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", TRAINED)
def test_graphs_agree_with_eager_steps_on_a_gpu(method: str, precision: str) -> None:
    losses = []
    for engine in ("eager", "graphs"):
        trainer = a_changing_trainer(method, "cuda", engine=engine, precision=precision)
        trainer.progress.removed_step = [None] * len(trainer.network.sections)
        for _ in range(3):
            trainer._epoch()
        losses.append([row["train_loss"] for row in trainer.progress.rows if "train_loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3 if precision == "fp32" else 3e-2)


@pytest.mark.gpu
def test_recording_changes_nothing_and_a_removal_records_anew() -> None:
    trainer = a_changing_trainer("gated", "cuda", engine="graphs")
    trainer.progress.removed_step = [None] * len(trainer.network.sections)
    trainer.recorded.start_epoch(0)
    trainer.method.start_epoch(0)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer._prepare()
    trainer.recorded._record(0, 16)
    assert all(torch.equal(before[name], value) for name, value in trainer.network.state_dict().items())
    trainer._recorded_step()
    assert trainer.recorded._records
    trainer._remove([1])
    assert not trainer.recorded._records
    assert torch.isfinite(trainer._recorded_step())
