"""What it would bring to compute a branch for those examples only whose gate is open, and what it would cost.

It saves multiply-adds before anything is removed, but the slope of the loss at a closed gate is then unknown: of the
two-sided estimate only the side xi = 1 is left. Both are measured here on a prototype; the library does not have it.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.steps import BATCH, made_up_data, network_of
from bench.timing import Measurement, compare
from layerprune.core.data import load
from layerprune.core.data.dataset import DataSet
from layerprune.core.gates.estimators import TwoSided, bernoulli_gates
from layerprune.core.methods import settings_class
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import FinetuneSettings, TrainingSettings
from layerprune.core.timing import quartiles
from layerprune.core.training.state import StateFile
from layerprune.suite.config import RunSettings
from layerprune.suite.run.task import Task
from layerprune.suite.run.train import train

ARCH, THETAS = "resnet-20", (0.9, 0.5, 0.25)
SMALL_ARCH, EPOCHS, DRAWS = "resnet-8", 8, 8
CPU = torch.device("cpu")


class OpenRows(nn.Module):
    """A branch that is computed for the rows `open` [N] alone; the others' output is 0."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.open: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x[self.open])
        whole = torch.zeros(len(x), *out.shape[1:], dtype=out.dtype).to(memory_format=torch.channels_last)
        return whole.index_copy(0, self.open, out)


def masked_step(network: SectionedNetwork, images: Tensor, labels: Tensor, gates: Tensor) -> None:
    """Forward and backward pass, every branch computed for every example."""
    functional.cross_entropy(network(images, gates), labels).backward()


def step_of_open_rows(network: SectionedNetwork, images: Tensor, labels: Tensor, gates: Tensor) -> None:
    """The same with branches of type OpenRows."""
    for section, gate in zip(network.sections, gates, strict=True):
        section.branch.open = gate.flatten().nonzero().flatten()
    masked_step(network, images, labels, gates)


def open_rows(network: SectionedNetwork) -> SectionedNetwork:
    """The network with its branches wrapped."""
    for section in network.sections:
        section.branch = OpenRows(section.branch)
    return network


def time_saved(theta: float, rounds: int) -> Measurement:
    """A step of ResNet-20 with gates drawn from theta, open rows over all rows."""
    data = made_up_data(BATCH, network_of(ARCH).input_shape)
    images = (data.train.images.float() / 255).contiguous(memory_format=torch.channels_last)
    masked, subset = network_of(ARCH), open_rows(network_of(ARCH))
    probabilities = torch.full((len(masked.sections),), theta)
    source = torch.Generator().manual_seed(0)

    def work(step: Callable[..., None], network: SectionedNetwork) -> Callable[[], None]:
        return lambda: step(network, images, data.train.labels, bernoulli_gates(probabilities, BATCH, source))

    name = f"branches of open rows only / of all rows, {ARCH}, theta {theta}"
    return compare(name, work(masked_step, masked), work(step_of_open_rows, subset), rounds)


# --- the estimate -----------------------------------------------------------------------------------------------


def trained_under_gates(seed: int, data: DataSet, epochs: int) -> SectionedNetwork:
    """ResNet-8 after some epochs with every gate at theta = 0.5, in evaluation mode."""
    settings = settings_class("gated")(
        nu=0.0, theta_lr=1e-9, warmup="0ep", check_interval=10**6, consolidate_at=1.0
    ).model_dump(mode="json")
    training = TrainingSettings(duration=f"{epochs}ep", batch_size=64, lr=0.05)
    science = RunSettings(
        dataset="digits",
        arch=SMALL_ARCH,
        method="gated",
        seed=seed,
        training=training,
        finetune=FinetuneSettings(),
        settings=settings,
    )
    run = Task(science, data, CPU, {}, StateFile(None, "", 1e9), lambda *told: None)
    return train(run).network.eval()


def true_delta(network: SectionedNetwork, images: Tensor, labels: Tensor) -> Tensor:
    """E[C | xi_l = 1] - E[C | xi_l = 0] [L] at theta = 0.5, by going through every gating of the network."""
    gatings = list(product((0.0, 1.0), repeat=len(network.sections)))
    with torch.no_grad():
        losses = torch.stack(
            [functional.cross_entropy(network(images, torch.tensor(each).view(-1, 1, 1)), labels) for each in gatings]
        )
    chosen = torch.tensor(gatings)
    return (2 * chosen - 1).mul(losses[:, None]).sum(0) / (len(gatings) / 2)


def _no_losses(gates: Tensor) -> Tensor:
    raise LookupError("the two-sided estimator makes no second forward pass")


def errors(network: SectionedNetwork, images: Tensor, labels: Tensor, seed: int) -> tuple[float, float]:
    """Error of the two-sided estimate and of its open side alone, as shares of the true differences' size."""
    sections, theta = len(network.sections), torch.full((len(network.sections),), 0.5)
    estimator = TwoSided(sections, len(images), 1.0, 1.0, CPU)
    source = torch.Generator().manual_seed(seed)
    for _ in range(DRAWS):
        gates = estimator.draw(theta, len(images), source).requires_grad_()
        losses = functional.cross_entropy(network(images, gates), labels, reduction="none")
        (slopes,) = torch.autograd.grad(losses.sum(), gates)
        estimator.update(theta, gates.detach(), slopes.squeeze(2), losses.detach(), _no_losses)
    truth = true_delta(network, images, labels)
    open_side = estimator.sums[0] / estimator.counts[0]
    size = truth.abs().mean()
    return float((estimator.delta() - truth).abs().mean() / size), float((open_side - truth).abs().mean() / size)


def estimate_lost(seeds: int, epochs: int = EPOCHS) -> Measurement:
    """Error of the open side alone over that of both sides, after training on digits."""
    data = load("digits", Path("unused"), CPU)
    images = data.train.images.float() / 255
    images = (images - torch.tensor(data.mean).view(-1, 1, 1)) / torch.tensor(data.std).view(-1, 1, 1)
    pairs = [errors(trained_under_gates(seed, data, epochs), images, data.train.labels, seed) for seed in range(seeds)]
    low, middle, high = quartiles([one / both for both, one in pairs])
    both, one = (sum(column) / seeds for column in zip(*pairs, strict=True))
    name = f"error of Delta, open side only / both sides, {SMALL_ARCH}, theta 0.5"
    return Measurement(name, middle, low, high, seeds, note=f"mean error {100 * one:.0f} % against {100 * both:.0f} %")


def measure(rounds: int) -> Iterator[Measurement]:
    """Time at several theta, then the estimate."""
    for theta in THETAS:
        yield time_saved(theta, rounds)
    yield estimate_lost(rounds)
