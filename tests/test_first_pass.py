"""The comparison at the first training pass: what is gated wrongly is refused, and nothing else notices it."""

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from feature_networks import FEATURES, WAYS, Features
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.utils.checkpoint import checkpoint

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.gates import Gates

EXAMPLE = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
WIDTH = 8


class Block(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Drawing(nn.Module):
    """Scales by random numbers of every kind of generator."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(WIDTH, WIDTH), kind
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        kinds = {
            "python": lambda: random.random(),
            "numpy": lambda: float(np.random.rand()),
            "own": lambda: torch.rand(1, generator=self.generator),
            "torch": lambda: torch.rand(1),
        }
        return torch.tanh(self.layer(x)) * kinds[self.kind]()


class Overwriting(nn.Module):
    """Works in place on what the model is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)


class Reentrant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.layer, x, use_reentrant=True)


def network(*inner: nn.Module, first: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [Block(each) for each in inner] + [Block(nn.Linear(WIDTH, WIDTH)) for _ in range(2)]
    return nn.Sequential(first or nn.Identity(), nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH), *blocks, nn.Dropout(0.2))


def normed(way: Callable) -> nn.Module:
    return way(nn.Linear(WIDTH, WIDTH))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls its older weight_norm deprecated; people use it
    NETWORKS: dict[str, Callable[[], nn.Module]] = {
        **{
            f"draws of {kind}": lambda kind=kind: network(Drawing(kind)) for kind in ("python", "numpy", "own", "torch")
        },
        "overwriting": lambda: network(first=Overwriting()),
        "reentrant": lambda: network(Reentrant()),
        "weight norm": lambda: network(normed(weight_norm)),
        "weight norm by parametrization": lambda: network(normed(parametrizations.weight_norm)),
        "spectral norm": lambda: network(normed(parametrizations.spectral_norm)),
        "spectral norm by a hook": lambda: network(normed(nn.utils.spectral_norm)),
        "every feature": lambda: Features(tuple(WAYS), frozenset(FEATURES)),
    }


def batches(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        yield torch.randn(6, 4, generator=generator)


def trained(model: nn.Module, verify: bool, steps: int = 8, autocast: bool = False) -> list[Any]:
    """All that a training leaves: losses, weights, buffers, theta, what hooks saw, and the next random numbers."""
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    sections = find_sections(model, EXAMPLE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    pruner = ConcurrentPruner(
        model, sections, optimizer, total_steps=steps, nu=0.05, theta_lr=1.0, check_interval=2, verify=verify
    )
    calls, losses = [], []
    model.register_forward_hook(lambda module, inputs, output: calls.append(1))
    list(model.modules())[-1].register_forward_pre_hook(lambda module, inputs: calls.append(2))
    for x in batches(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = model.train()(x)
            if isinstance(output, tuple):
                output = output[0]
            loss = output.float().square().mean()
        losses.append((loss.item(), x.sum().item()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    state = [*model.state_dict().items(), *pruner._forward.plain().state_dict().items()]
    numbers = [float(torch.rand(1)), random.random(), float(np.random.rand())]
    return [losses, [(name, each.tolist()) for name, each in state], pruner.theta, pruner.removed, calls, numbers]


@pytest.mark.parametrize(
    ("name", "autocast"), [*((name, False) for name in NETWORKS), ("draws of torch", True), ("spectral norm", True)]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_training_does_not_notice_the_comparison(name: str, autocast: bool) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = NETWORKS[name]()
        torch.manual_seed(0)
        again = NETWORKS[name]()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*cannot be compared.*")
        assert trained(model, True, autocast=autocast) == trained(again, False, autocast=autocast)


# --- what is gated wrongly --------------------------------------------------------------------------------------


def scaled(self: Gates, place: int, batch: int, spread: bool, out: Tensor, given: Any = None) -> Tensor:
    return out if self.values[place] is None else 1.1 * out


def cut_off(self: Gates, place: int, batch: int, spread: bool, out: Tensor, given: Any = None) -> Tensor:
    return out if self.values[place] is None else out.detach()


def of_wrong_shape(self: Gates, place: int, batch: int, spread: bool, out: Tensor, given: Any = None) -> Tensor:
    return out if self.values[place] is None else out * torch.ones(17, 1)


def doubled_back(self: Gates, place: int, batch: int, spread: bool, out: Tensor, given: Any = None) -> Tensor:
    return out if self.values[place] is None else 2 * out - out.detach()


FAULTS = {
    "output": (scaled, "output 0 differs"),
    "no gradient": (cut_off, "'4.inner.bias' gets no gradient"),
    "another gradient": (doubled_back, "the gradient of '.*' differs"),
    "a failure": (of_wrong_shape, r"it fails \(The size of tensor a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_its_gates_change_is_refused_in_one_line(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, complaint = FAULTS[fault]
    model = network()
    sections = find_sections(model, EXAMPLE).but({"3.inner": "stays"})
    ConcurrentPruner(model, sections, torch.optim.SGD(model.parameters(), lr=0.1), total_steps=8, nu=0.1)
    monkeypatch.setattr(Gates, "apply", apply)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LayerpruneError, match=complaint) as error:
        model.train()(torch.randn(6, 4))
    assert "\n" not in str(error.value)
    assert "keep 4.inner with sections.but({'4.inner': 'differs'})" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_it_can_be_turned_off_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    apply = Gates.apply

    def counted(self: Gates, place: int, batch: int, spread: bool, out: Tensor, given: Any = None) -> Tensor:
        calls.append(place)
        return apply(self, place, batch, spread, out, given)

    monkeypatch.setattr(Gates, "apply", counted)
    counts = {}
    for verify in (True, False):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        pruner = ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, total_steps=8, nu=0.1, verify=verify)
        model.train()
        for x in batches(3):
            calls.clear()
            model(x).square().mean().backward()
            optimizer.step()
            pruner.step()
            counts.setdefault(verify, []).append(len(calls))
    assert counts == {True: [4, 2, 2], False: [2, 2, 2]}


class Unrepeatable(nn.Module):
    """Draws from a generator that nobody knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.draw = nn.Linear(WIDTH, WIDTH), np.random.default_rng(0).random

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) * self.draw() if self.training else self.layer(x)


class OfStream(nn.Module):
    """Takes its batch from an iterator, which is there once."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor, more: Iterator[Tensor] | None = None) -> Tensor:
        return self.inner(x if more is None else x + next(more))


@pytest.mark.parametrize("make", [lambda: network(Unrepeatable()), OfStream])
def test_what_cannot_be_compared_is_said_and_trained(make: Callable[[], nn.Module]) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, total_steps=8, nu=0.1)
    given = (torch.ones(6, 4) for _ in range(1))
    with pytest.warns(UserWarning, match=r"with open gates cannot be compared with itself without: it (fail|differ)"):
        output = model.train()(torch.randn(6, 4), *([given] if isinstance(model, OfStream) else []))
    output.square().mean().backward()
