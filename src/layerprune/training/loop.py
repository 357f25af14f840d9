"""The one training loop, for every method, from scratch or fine-tuning.

It asks the method what multiplies the branches and which sections go, takes them out physically, and keeps the
books: a row of curves per epoch, multiply-adds, wall time of training alone. A step makes no device-to-host copy.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layerprune.config import FinetuneSettings, TrainingSettings
from layerprune.data.batches import TrainingBatches
from layerprune.data.dataset import DataSet
from layerprune.methods.base import TrainingMethod
from layerprune.models import surgery
from layerprune.models.sections import Gates, SectionedNetwork
from layerprune.training import engine
from layerprune.training.evaluate import Score, evaluate
from layerprune.training.meter import MacMeter
from layerprune.training.precision import autocast
from layerprune.training.schedule import learning_rate, warmup_steps
from layerprune.training.state import StateFile

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """How far a training is; what the resume state stores beside the tensors."""

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
    batches: TrainingBatches
    settings: TrainingSettings
    rate: TrainingSettings | FinetuneSettings
    steps_total: int
    state: StateFile
    start: Progress
    report: Callable[[int, int, str], None] = lambda done, total, text: None


def _optimizer(network: SectionedNetwork, job: Job) -> torch.optim.SGD:
    """Fused SGD whose momentum starts at 0, also for sections that get no gradient in the first step."""
    settings = job.settings
    optimizer = torch.optim.SGD(
        network.parameters(),
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


class Trainer:
    """Network, method and optimizer on their way through a job's steps."""

    def __init__(self, network: SectionedNetwork, method: TrainingMethod, job: Job) -> None:
        self.network = network
        self.method = method
        self.job = job
        self.progress = job.start
        self.forward = engine.forward_of(network, job.settings.engine)
        self.optimizer = _optimizer(network, job)
        self.warmup = warmup_steps(job.rate, job.batches.steps_per_epoch) if job.rate is job.settings else 0
        self.meter = MacMeter(network, job.start.train_macs)

    def run(self) -> Progress:
        """Train to the last step, taking up stored state where there is some."""
        self._take_up()
        if not self.progress.rows:
            self.progress.removed_step = [None if stays else 0 for stays in self.network.keep()]
            self.progress.rows.append(self._row(None))
        self.network.train()
        while self.progress.step < self.job.steps_total and not self.progress.diverged:
            self._epoch()
            if self.job.state.is_due():
                self.job.state.write(self._state())
        return self.progress

    def _epoch(self) -> None:
        progress, job = self.progress, self.job
        self.method.start_epoch(progress.epoch)
        began = time.perf_counter()
        device = job.data.train.images.device
        total, seen = torch.zeros((), device=device), 0
        for images, labels in job.batches.epoch(progress.epoch):
            total += self._step(images, labels)
            seen += len(labels)
            if self._is_check():
                self._remove(self.method.removals(progress.step))
                self.meter.total += self.method.macs_of_removals()
            if progress.step == job.steps_total:
                break
        train_loss = float(total) / seen  # the first copy to the host since the last check: the device is done
        progress.wall_seconds += time.perf_counter() - began
        progress.train_macs = self.meter.total
        progress.epoch += 1
        progress.diverged = not math.isfinite(train_loss)
        progress.rows.append(self._row(train_loss))
        job.report(progress.step, job.steps_total, self._line(progress.rows[-1]))

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step; returns the batch's summed loss, still on the device."""
        step = self.progress.step
        lr = learning_rate(self.job.rate, step, self.job.steps_total, self.warmup)
        self.optimizer.param_groups[0]["lr"] = lr
        gates = self.method.gates(step, len(labels))
        losses = self._losses(images, labels, gates)
        loss, penalty = losses.mean(), self.method.penalty(step)
        (loss if penalty is None else loss + penalty).backward()
        self.meter.add_step(len(labels), gates)
        self.meter.total += len(labels) * self.method.macs_beside
        losses = losses.detach()
        self.method.after_backward(step, losses, lambda other: self._losses_of(images, labels, other))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(step, lr)
        self.progress.step += 1
        return losses.sum()

    def _losses(self, images: Tensor, labels: Tensor, gates: Gates) -> Tensor:
        with autocast(self.job.settings.precision, images.device):
            logits = self.forward(images, gates)
        return self.method.losses(images, logits.float(), labels)

    @torch.no_grad()
    def _losses_of(self, images: Tensor, labels: Tensor, gates: Gates) -> Tensor:
        self.meter.add_forward(len(labels), gates)
        return self._losses(images, labels, gates)

    def _is_check(self) -> bool:
        interval, step = self.method.check_interval, self.progress.step
        return interval is not None and (step % interval == 0 or step == self.job.steps_total)

    def _remove(self, indices: list[int]) -> None:
        if not indices:
            return
        surgery.remove(self.network, indices, self.optimizer)
        self.forward = engine.forward_of(self.network, self.job.settings.engine)
        self.meter.recount()
        for index in indices:
            self.progress.removed_step[index] = self.progress.step

    def _row(self, train_loss: float | None) -> Row:
        """One line of curves.csv; epoch 0 is the start."""
        progress = self.progress
        started = train_loss is not None
        validation = self._validate() if started and math.isfinite(train_loss) else None
        row: Row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "lr": self.optimizer.param_groups[0]["lr"] if started else None,
            "train_loss": train_loss,
            "val_loss": validation.loss if validation else None,
            "val_accuracy": validation.accuracy if validation else None,
            "sections_alive": sum(self.network.keep()),
            "macs": self.meter.forward_macs(),
            "train_macs": progress.train_macs,
            "wall_seconds": progress.wall_seconds,
        }
        values = self.method.curve()
        for index, value in enumerate(values or []):
            row[f"theta_{index:02d}"] = value if self.network.sections[index].alive else None
        return row

    def _validate(self) -> Score:
        data, precision = self.job.data, self.job.settings.precision
        return evaluate(self.network, data, data.validation, self.method.evaluation_gates(), precision)

    @staticmethod
    def _line(row: Row) -> str:
        accuracy = f"{100 * row['val_accuracy']:.2f} %" if row["val_accuracy"] is not None else "-"
        loss = row["train_loss"]
        return f"epoch {row['epoch']}  loss {loss:.4f}  validation {accuracy}  sections {row['sections_alive']}"

    # --- resume -----------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "progress": vars(self.progress),
            "keep": self.network.keep(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state(),
        }

    def _take_up(self) -> None:
        stored = self.job.state.read()
        if stored is None:
            return
        gone = [index for index, stays in enumerate(stored["keep"]) if not stays]
        surgery.remove(self.network, gone, self.optimizer)
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.method.load_state(stored["method"])
        self.progress = Progress(**stored["progress"])
        self.progress.resumed += 1
        self.meter.total = self.progress.train_macs
        self.meter.recount()
