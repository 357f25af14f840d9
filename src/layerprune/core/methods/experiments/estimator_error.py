"""The error of each estimator of Delta against its true value, enumerated on a small network.

A network is trained while every section's gate is open half of the time, as in gated's warm-up, and then left as it is.
Delta_l = E[C | xi_l = 1] - E[C | xi_l = 0], all gates at one theta, is formed from the losses of all 2^L networks on a
sample; the estimators read it from batches of the same sample, and what they have after so many batches is compared:
|reading - Delta| / |Delta|, and what of it is bias, what spread. Beside the four estimators stand the two halves of the
two-sided one, the mean slope where the gate is open and where it is closed. Derived: see docs/method.md.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from layerprune.core.gates.estimators import ESTIMATORS, Estimator, bernoulli_gates
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.networks.sections import Gates, SectionedNetwork
from layerprune.core.seeding import generator
from layerprune.core.settings import EstimatorErrorSettings
from layerprune.errors import SettingError

VERSION = 1
MOST_SECTIONS = 10
"""With more there are too many networks to enumerate."""
TRAINED_AT = 0.5
SIDE_FLOOR = 4.0


class HalfOpen(TrainingMethod):
    """Training whose gates are drawn from TRAINED_AT; nothing is decided."""

    def start_epoch(self, epoch: int) -> None:
        self.noise = generator("gates", self.context.seed, epoch, device=self.context.device)

    def gates(self, step: int, batch: int) -> Gates:
        theta = torch.full((self.context.sections,), TRAINED_AT, device=self.context.device)
        return bernoulli_gates(theta, batch, self.noise)[:, self.context.group.mine(batch)]


def measure(settings: EstimatorErrorSettings, inputs: ExperimentInput) -> dict[str, Any]:
    """`errors`: a row for each length of training, theta, reading and number of batches; see `apart`."""
    count = len(inputs.network.sections)
    if count > MOST_SECTIONS:
        raise SettingError(f"estimator-error: {count} sections, at most {MOST_SECTIONS} can be enumerated")
    images, labels = inputs.sample(settings.sample)
    rows = []
    for epochs in settings.epochs:
        network = inputs.train(HalfOpen, epochs).eval().requires_grad_(False)
        losses = losses_of_all(network, images, labels)
        for theta in settings.thetas:
            truth = enumerated(losses, theta)
            told = {"epochs": epochs, "theta": theta}
            rows += [told | row for row in _errors(settings, inputs, network, (images, labels), theta, truth)]
    return {"errors": rows}


def losses_of_all(network: SectionedNetwork, images: Tensor, labels: Tensor) -> dict[tuple[int, ...], float]:
    """Mean loss with every combination of open and closed sections."""
    found = {}
    with torch.no_grad():
        for keep in itertools.product((0, 1), repeat=len(network.sections)):
            gates = torch.tensor(keep, dtype=torch.float32, device=images.device).view(-1, 1, 1)
            found[keep] = float(functional.cross_entropy(network(images, gates), labels))
    return found


def enumerated(losses: dict[tuple[int, ...], float], theta: float) -> Tensor:
    """Delta [L] where every gate is open with probability theta."""
    sections = len(next(iter(losses)))
    delta = torch.zeros(sections, dtype=torch.float64)
    for keep, loss in losses.items():
        for section, stays in enumerate(keep):
            others = sum(keep) - stays
            weight = theta**others * (1 - theta) ** (sections - 1 - others)
            delta[section] += weight * loss * (1 if stays else -1)
    return delta


def _errors(
    settings: EstimatorErrorSettings,
    inputs: ExperimentInput,
    network: SectionedNetwork,
    sample: tuple[Tensor, Tensor],
    theta: float,
    truth: Tensor,
) -> Iterator[dict[str, Any]]:
    """How far each reading is from the truth after 1, 4, 16, ... batches, over repetitions."""
    moments = [4**power for power in range(10) if 4**power <= settings.batches]
    read: dict[tuple[str, int], list[Tensor]] = {}
    for repetition in range(settings.repetitions):
        inputs.go_on()
        noise = generator("estimators", inputs.seed, repetition, device=sample[0].device)
        estimators = {
            name: kind(len(truth), settings.batch_size, 1.0, SIDE_FLOOR, sample[0].device)
            for name, kind in ESTIMATORS.items()
        }
        for batch in range(1, settings.batches + 1):
            for estimator in estimators.values():
                _take_in(estimator, network, sample, theta, settings.batch_size, noise)
            if batch in moments:
                for name, reading in _readings(estimators).items():
                    read.setdefault((name, batch), []).append(reading.cpu().double())
    for (name, batch), readings in read.items():
        yield {"reading": name, "batches": batch} | apart(torch.stack(readings), truth)


def apart(readings: Tensor, truth: Tensor) -> dict[str, float | None]:
    """Of readings [R, L] of Delta [L], as shares of its norm: the mean distance `error`, that of the readings' mean
    `bias`, and the readings' standard deviation around that mean, `spread` (None for a single one)."""
    size, mean = truth.norm(), readings.mean(0)
    error = float((readings - truth).norm(dim=1).mean() / size)
    bias = float((mean - truth).norm() / size)
    if len(readings) == 1:
        return {"error": error, "bias": bias, "spread": None}
    variance = (readings - mean).square().sum() / (len(readings) - 1)
    return {"error": error, "bias": bias, "spread": float(variance.sqrt() / size)}


def _take_in(
    estimator: Estimator,
    network: SectionedNetwork,
    sample: tuple[Tensor, Tensor],
    theta: float,
    size: int,
    noise: torch.Generator,
) -> None:
    """One batch, drawn from the sample."""
    chosen = torch.randint(len(sample[1]), (size,), generator=noise, device=noise.device)
    images, labels = sample[0][chosen], sample[1][chosen]
    probabilities = torch.full((len(network.sections),), theta, device=images.device)
    gates = estimator.draw(probabilities, size, noise).requires_grad_()
    losses = _losses(network, images, labels, gates)
    losses.sum().backward()
    slopes = gates.grad.squeeze(2)

    @torch.no_grad()
    def losses_of(other: Tensor) -> Tensor:
        return _losses(network, images, labels, other)

    estimator.update(probabilities, gates.detach(), slopes, losses.detach(), losses_of)


def _losses(network: SectionedNetwork, images: Tensor, labels: Tensor, gates: Tensor) -> Tensor:
    return functional.cross_entropy(network(images, gates), labels, reduction="none")


def _readings(estimators: dict[str, Estimator]) -> dict[str, Tensor]:
    """What each has so far, and the two halves of the two-sided one."""
    both = estimators["two_sided"]
    opened, closed = both.sums / both.counts.clamp(min=1e-12)
    return {name: each.delta() for name, each in estimators.items()} | {"only_open": opened, "only_closed": closed}
