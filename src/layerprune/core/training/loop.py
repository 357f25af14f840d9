"""The one training loop, for every method, from scratch or fine-tuning.

It asks the method what multiplies the branches and which sections go, takes them out physically, and keeps the
books: a row of curves per epoch, shorter rows at the method's checks in between, multiply-adds, wall time of training
alone. A step makes no device-to-host copy.

Several processes that share a run each take their part of every batch and hold equal networks; which sections go they
compare. A process that is told to end (SIGTERM) stores where it is within the epoch.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layerprune.core import surgery
from layerprune.core.data.batches import Batches, TrainingBatches
from layerprune.core.data.dataset import AnySplit, DataSet
from layerprune.core.decay import under_decay
from layerprune.core.measure import MacMeter
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.settings import FinetuneSettings, TrainingSettings, warmup_steps
from layerprune.core.training import engine
from layerprune.core.training.averaging import WeightAverage
from layerprune.core.training.cast_weights import CastWeights
from layerprune.core.training.engine import autocast
from layerprune.core.training.evaluate import Score, evaluate
from layerprune.core.training.graphs import RecordedSteps
from layerprune.core.training.schedule import learning_rate, lr_factor
from layerprune.core.training.sgd import SGD
from layerprune.core.training.state import StateFile
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup
from layerprune.system.processes import Notice, Preempted

Row = dict[str, float | int | None]
STEPS_BETWEEN_QUESTIONS = 50
"""How often several processes ask each other whether one of them was told to end."""
STEPS_BETWEEN_REPORTS = 20
SHORT_ROWS = 100
"""At most so many rows of curves are written at checks, beside those of the epochs, however long a training is."""
THETA_DIGITS = 5
"""Decimals of theta in these rows."""


@dataclass
class Progress:
    """How far a training has come; what the resume state stores beside the tensors."""

    epoch: int = 0
    step: int = 0
    train_macs: int = 0
    wall_seconds: float = 0.0
    resumed: int = 0
    diverged: bool = False
    removed_step: list[int | None] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """What a training needs besides network and method. `start` holds what parents already spent."""

    data: DataSet
    batches: Batches
    settings: TrainingSettings
    rate: TrainingSettings | FinetuneSettings
    steps_total: int
    state: StateFile
    start: Progress
    report: Callable[[int, int, str], None] = lambda done, total, text: None
    notice: Notice = field(default_factory=Notice)
    group: ProcessGroup = SINGLE_PROCESS
    records: bool = True
    """Whether steps are recorded where the engine does so; otherwise they are computed eagerly."""


def _optimizer(network: SectionedNetwork, job: Job) -> SGD:
    """Fused SGD whose momentum starts at 0, also for sections that get no gradient in the first step."""
    settings = job.settings
    optimizer = SGD(
        _parameter_groups(network, settings),
        lr=job.rate.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if settings.momentum > 0:
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _parameter_groups(network: SectionedNetwork, settings: TrainingSettings) -> list[dict[str, Any]]:
    decayed = under_decay(network.parameters(), settings.decayed)
    found = {id(each) for each in decayed}
    others = [each for each in network.parameters() if id(each) not in found]
    return [{"params": decayed}] + ([{"params": others, "weight_decay": 0.0}] if others else [])


class Trainer:
    """Network, method and optimizer on their way through a job's steps."""

    def __init__(self, network: SectionedNetwork, method: TrainingMethod, job: Job) -> None:
        self.network = network
        self.method = method
        self.job = job
        self.progress = job.start
        self.forward = self._joined_forward()
        self.optimizer = _optimizer(network, job)
        self.lr = torch.zeros((), dtype=torch.float64, device=job.data.train.device)
        """Of the present step, where a recorded step finds it; in double precision, as a number would be."""
        self.optimizer_lr = self.lr.float()
        """The same for the optimizer, whose fused kernels take single precision alone."""
        self._hold_rate()
        self.lr_factor = lr_factor(job.settings)
        self.warmup = self._warmup_steps()
        average = job.settings.average
        self.average = None if average is None else WeightAverage(network, average)
        self.meter = MacMeter(network, job.start.train_macs)
        self.loss_sum = torch.zeros((), device=job.data.train.device)
        """Of this process's examples since the epoch's start."""
        self.recorded = self._recorded_steps()
        self.cast_weights = self._cast_weights()

    def run(self) -> Progress:
        """Train to the last step, resuming from stored state if there is any."""
        self._take_up()
        if not self.progress.rows:
            self.progress.removed_step = [None if stays else 0 for stays in self.network.keep()]
            self.progress.rows.append(self._row(None))
        self.network.train()
        self._report()
        try:
            self._train()
        finally:
            self.forget_records()
        if self.average is not None:
            self.average.copy_to(self.network)
        return self.progress

    def forget_records(self) -> None:
        """Drop the recorded steps and their memory."""
        if self.recorded is not None:
            self.recorded.forget()

    def _train(self) -> None:
        while self.progress.step < self.job.steps_total and not self.progress.diverged:
            self._epoch()
            if self._told_to_end():
                self._end()
            if self.job.state.is_due():
                self._store()

    def _warmup_steps(self) -> int:
        job = self.job
        if job.rate is not job.settings:
            return 0  # fine-tuning has none
        return warmup_steps(job.settings.lr_warmup, job.batches.steps_per_epoch, job.steps_total)

    def _epoch(self) -> None:
        progress, job = self.progress, self.job
        if self._within_epoch() == 0:
            self.method.start_epoch(progress.epoch)
            self.loss_sum.zero_()
        began = time.perf_counter()
        for loss in self._steps_of_epoch():
            self.loss_sum += loss
            if self._is_check():
                self._remove(self.method.removals(progress.step))
                self.meter.total += self.method.macs_of_removals()
                self._note()
            if progress.step == job.steps_total:
                break
            if progress.step % STEPS_BETWEEN_REPORTS == 0:
                self._report()
            if self._may_ask() and self._told_to_end():
                progress.wall_seconds += time.perf_counter() - began
                progress.train_macs = self.meter.total
                self._end()
        job.group.add_up(self.loss_sum)
        # The first copy to the host since the last check: the device is done.
        train_loss = float(self.loss_sum) / sum(map(job.batches.examples_in, range(self._within_epoch())))
        if progress.step == job.steps_total and math.isfinite(train_loss):
            self._finish()
        progress.wall_seconds += time.perf_counter() - began
        progress.train_macs = self.meter.total
        progress.epoch += 1
        progress.diverged = not math.isfinite(train_loss)
        progress.rows.append(self._row(train_loss))
        self._report()

    def _steps_of_epoch(self) -> Iterator[Tensor]:
        """Make the remaining steps of the epoch; yields each one's summed loss."""
        batches, progress = self.job.batches, self.progress
        if self.recorded is None:
            for images, labels in batches.epoch(progress.epoch, self._within_epoch()):
                yield self._step(images, labels)
            return
        self.recorded.start_epoch(progress.epoch)
        while self._within_epoch() < batches.steps_per_epoch:
            yield self._recorded_step()

    def _recorded_steps(self) -> RecordedSteps | None:
        """Where the engine records steps: of images in memory, by one process, and without a host's bookkeeping."""
        job = self.job
        able = isinstance(job.batches, TrainingBatches) and job.group.size == 1 and self.average is None
        return RecordedSteps(self, job.batches) if job.settings.engine == "graphs" and job.records and able else None

    def _cast_weights(self) -> CastWeights | None:
        """Where the engine records steps: the weights in the format that they compute in."""
        records = self.recorded is not None and self.job.settings.precision == "bf16"
        return CastWeights(self.network) if records else None

    def _hold_rate(self) -> None:
        """Let the optimizer read its rate from one place."""
        for weights in self.optimizer.param_groups:
            weights["lr"] = self.optimizer_lr

    def _joined_forward(self) -> engine.Forward:
        job = self.job
        batch = job.group.share(job.batches.examples_in(0))
        how = "eager" if self.method.looks_inside else job.settings.engine
        return engine.forward_of(self.network, how, batch, job.group, self.method.skips_sections)

    def _within_epoch(self) -> int:
        """Steps made since the epoch's start."""
        return self.progress.step - self.progress.epoch * self.job.batches.steps_per_epoch

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step; returns the summed loss of this process's examples, still on the device."""
        examples = self._prepare()
        loss, gates = self.compute(images, labels, self.progress.step, examples)
        self._account(examples, gates)
        return loss

    def _recorded_step(self) -> Tensor:
        """The same, of a batch that the recorded step gathers itself."""
        examples = self._prepare()
        loss, gates = self.recorded.step(self.progress.step, examples)
        self._account(examples, gates)
        return loss

    def _prepare(self) -> int:
        """Tell the device what changes from step to step; returns the size of the batch."""
        step = self.progress.step
        self.lr.fill_(self.lr_now(step))
        self.optimizer_lr.copy_(self.lr)
        self.method.prepare(step)
        return self.job.batches.examples_in(step % self.job.batches.steps_per_epoch)

    def lr_now(self, step: int) -> float:
        """Learning rate of a step."""
        return self.lr_factor * learning_rate(self.job.rate, step, self.job.steps_total, self.warmup)

    def _account(self, examples: int, gates: Gates) -> None:
        self.meter.add_step(examples, gates)
        self.meter.total += examples * self.method.macs_beside
        self.progress.step += 1

    def compute(self, images: Tensor, labels: Tensor, step: int, examples: int) -> tuple[Tensor, Gates]:
        """What a step computes on the device: its summed loss and its gates. `step` tells the phase, nothing else."""
        group = self.job.group
        if self.cast_weights is not None:
            self.cast_weights.refresh()
        gates = self.method.gates(step, examples)
        losses = self._losses(images, labels, gates)
        loss, penalty = group.mean_of(losses, examples), self.method.penalty(step)
        with group.explaining():
            (loss if penalty is None else loss + penalty).backward()
        if self.cast_weights is not None:
            self.cast_weights.collect()
        losses = losses.detach()

        @torch.no_grad()
        def losses_of(other: Gates) -> Tensor:
            self.meter.add_forward(examples, other)
            return self._losses(images, labels, other)

        self.method.after_backward(step, losses, losses_of)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(step, self.lr)
        if self.average is not None:
            self.average.update()
        return losses.sum(), gates

    def _losses(self, images: Tensor, labels: Tensor, gates: Gates) -> Tensor:
        cast = nullcontext() if self.cast_weights is None else self.cast_weights.used()
        with self.job.group.explaining(), autocast(self.job.settings.precision, images.device), cast:
            logits = self.forward(images, gates)
        return self.method.losses(images, logits.float(), labels)

    def _is_check(self) -> bool:
        interval, step = self.method.check_interval, self.progress.step
        return interval is not None and (step % interval == 0 or step == self.job.steps_total)

    def _remove(self, indices: list[int]) -> None:
        self.job.group.agree(f"the sections to remove at step {self.progress.step}", indices)
        if not indices:
            return
        self.forward = self.cast_weights = None  # they hold on to the parameters
        self.forget_records()
        surgery.remove(self.network, indices, self.optimizer)
        self.forward, self.cast_weights = self._joined_forward(), self._cast_weights()
        self.meter.recount()
        for index in indices:
            self.progress.removed_step[index] = self.progress.step

    def _row(self, train_loss: float | None) -> Row:
        """One line of curves.csv; epoch 0 is the start."""
        progress = self.progress
        started, untrained = train_loss is not None, self.job.steps_total == 0
        seen = untrained or (started and math.isfinite(train_loss))
        validation = self._validate(self.method.evaluation_gates()) if seen else None
        row: Row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "lr": self.lr_now(max(0, progress.step - 1)) if started else None,
            "train_loss": train_loss,
            "val_loss": validation.loss if validation else None,
            "val_accuracy": validation.accuracy if validation else None,
            "sections_alive": sum(self.network.keep()),
            "macs": self.meter.forward_macs(),
            "train_macs": progress.train_macs,
            "wall_seconds": progress.wall_seconds,
        }
        return row | self._thetas()

    def _note(self) -> None:
        """A row at a check within an epoch: sections, costs and theta, which the host has just read; no evaluation."""
        progress, steps = self.progress, self.job.batches.steps_per_epoch
        since = progress.step - (progress.rows[-1]["step"] if progress.rows else 0)
        if progress.step % steps == 0 or progress.step == self.job.steps_total:
            return  # the epoch's own row comes
        if since * SHORT_ROWS < self.job.steps_total:
            return
        row: Row = {
            "epoch": progress.step / steps,
            "step": progress.step,
            "sections_alive": sum(self.network.keep()),
            "macs": self.meter.forward_macs(),
            "train_macs": self.meter.total,
        }
        thetas = {name: value and round(value, THETA_DIGITS) for name, value in self._thetas().items()}
        progress.rows.append(row | thetas)

    def _thetas(self) -> Row:
        alive = self.network.keep()
        values = self.method.curve() or []
        return {f"theta_{index:02d}": value if alive[index] else None for index, value in enumerate(values)}

    def _finish(self) -> None:
        """Let the method decide by the weights that training ends with."""
        average, network = self.average, self.network
        before = copy.deepcopy(network.state_dict()) if average is not None else None
        if average is not None:
            average.copy_to(network)
        self.method.finish(self._accuracy_of)
        if before is not None:
            network.load_state_dict(before)

    def _accuracy_of(self, gates: Gates) -> float:
        """Validation accuracy under these gates, for a method's decision; it counts towards the training cost.

        Images come in a random order, the same each time: where they are stored by class, a method that looks inside
        would see batches of few classes.
        """
        split = self.job.data.validation
        self.meter.add_forward(len(split), gates)
        order = torch.randperm(len(split), generator=generator("validation", self.method.context.seed))
        return self._validate(gates, split.take(order.to(split.labels.device))).accuracy

    def _validate(self, gates: Gates, split: AnySplit | None = None) -> Score:
        """Of the validation split unless another is given."""
        job = self.job
        job.group.take_over(self.network.buffers())  # running statistics: each process saw images of its own
        split = job.data.validation if split is None else split
        return evaluate(self.network, job.data, split, gates, job.settings.precision, job.group)

    def _report(self) -> None:
        if self.progress.rows:
            self.job.report(self.progress.step, self.job.steps_total, self._line())

    def _line(self) -> str:
        """The present epoch, and the results of the last one."""
        progress = self.progress
        row = next(each for each in reversed(progress.rows) if "val_accuracy" in each)
        epochs = -(-self.job.steps_total // self.job.batches.steps_per_epoch)
        accuracy = f"{100 * row['val_accuracy']:.2f} %" if row["val_accuracy"] is not None else "-"
        loss = f"{row['train_loss']:.4f}" if row["train_loss"] is not None else "-"
        now = min(progress.epoch + 1, epochs)
        return f"epoch {now} of {epochs}  loss {loss}  val {accuracy}  sections {row['sections_alive']}"

    # --- resume -----------------------------------------------------------------------------------------------

    def _may_ask(self) -> bool:
        """Whether to look within an epoch if the run should end; one process knows at once, several have to talk."""
        return self.job.group.size == 1 or self.progress.step % STEPS_BETWEEN_QUESTIONS == 0

    def _told_to_end(self) -> bool:
        return self.job.group.any(bool(self.job.notice))

    def _end(self) -> None:
        """Store where training is, if there is a place for it. Raises Preempted."""
        if self.job.state.path is None:
            raise Preempted("told to end (SIGTERM): there is no state, the same command begins anew")
        self.job.group.take_over(self.network.buffers())
        self._store()
        raise Preempted(
            f"{self.job.state.path}: told to end (SIGTERM), state written; the same command resumes from it"
        )

    def _store(self) -> None:
        if self.job.group.first:
            self.job.state.write(self._state())

    def _state(self) -> dict[str, Any]:
        if self.recorded is not None:
            self.recorded.settle()
        noise = self.method.noise
        return {
            "progress": vars(self.progress),
            "keep": self.network.keep(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state(),
            "average": self.average.state() if self.average else None,
            "loss_sum": self.loss_sum,
            "noise": noise.get_state() if noise is not None else None,
            "left_out": self.job.data.left_out,
        }

    def _take_up(self) -> None:
        stored = self.job.state.read()
        if stored is None:
            return
        self.forward = self.cast_weights = None
        gone = [index for index, stays in enumerate(stored["keep"]) if not stays]
        surgery.remove(self.network, gone, self.optimizer)
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self._hold_rate()
        self.method.load_state(stored["method"])
        if self.average is not None:
            self.average.load_state(stored["average"])
        self.job.data.left_out.update(stored["left_out"])
        self.progress = Progress(**stored["progress"])
        self.progress.resumed += 1
        self.forward, self.cast_weights = self._joined_forward(), self._cast_weights()
        self.meter.total = self.progress.train_macs
        self.meter.recount()
        if self._within_epoch() > 0:
            self.method.start_epoch(self.progress.epoch)
            self.loss_sum.copy_(stored["loss_sum"])
            if self.method.noise is not None:
                self.method.noise.set_state(stored["noise"])
