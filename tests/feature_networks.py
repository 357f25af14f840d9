"""Small networks, each with something that a forward method may do besides applying layers; and any mixture of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WIDTH = 8


class Sign(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


def decorated(function: Callable) -> Callable:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


class Added(nn.Module):
    """x + f(x), written in one of many ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.3)
        self.scale = nn.Parameter(torch.full((WIDTH,), 0.7))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x.masked_fill(mask, 0)
        return getattr(self, self.way)(x)

    def module(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.second(torch.relu(self.first(x))))

    def function(self, x: Tensor) -> Tensor:
        return x + functional.dropout(torch.tanh(self.first(x)), 0.3, self.training)

    def in_place(self, x: Tensor) -> Tensor:
        out = 2 * self.second(torch.relu(self.first(x)))
        out += x
        return functional.relu(out, inplace=True)

    def scaled(self, x: Tensor) -> Tensor:
        return 0.7 * x + self.scale * torch.tanh(self.first(x))

    def subtracted(self, x: Tensor) -> Tensor:
        return x - torch.tanh(self.second(self.first(x)))

    def summed(self, x: Tensor) -> Tensor:
        return sum([x, torch.tanh(self.first(x))])

    def with_alpha(self, x: Tensor) -> Tensor:
        return torch.add(x, torch.sigmoid(self.first(x)), alpha=0.5)

    def of_method(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x)).add(x)

    def checkpointed(self, x: Tensor) -> Tensor:
        return x + checkpoint(self._inner, x, use_reentrant=False)

    def _inner(self, x: Tensor) -> Tensor:
        return self.dropout(self.second(torch.relu(self.first(x))))

    def in_a_checkpoint(self, x: Tensor) -> Tensor:
        return checkpoint(self._whole, x, use_reentrant=False)

    def _whole(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self._inner(x))

    @decorated
    def behind_a_decorator(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.first(x))

    def by_sizes(self, x: Tensor) -> Tensor:
        return x + self._halves(self.second(x))

    def _halves(self, x: Tensor) -> Tensor:
        count, width = x.shape
        halves = torch.tanh(x).view(count, 2, width // 2).roll(1, 1)
        return self.first(halves.transpose(1, 2).reshape(count, halves.shape[1] * halves.shape[2]))

    def in_a_closure(self, x: Tensor) -> Tensor:
        def inner(x: Tensor) -> Tensor:
            return x + torch.tanh(self.first(x))

        return inner(x)


WAYS = [
    *("module", "function", "in_place", "scaled", "subtracted", "summed", "with_alpha", "of_method", "checkpointed"),
    *("in_a_checkpoint", "behind_a_decorator", "in_a_closure", "by_sizes"),
]


class Features(nn.Module):
    """Blocks in `ways`, and around them what is named in `features`."""

    def __init__(self, ways: tuple[str, ...], features: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.features = features
        self.stem, self.head, self.aux = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(map(Added, ways))
        self.loop = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.register_buffer("count", torch.zeros(()))
        self.last: Tensor | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        if "no_grad" in self.features:
            with torch.no_grad():
                x = self.stem(x)
        elif "autocast" in self.features:
            with torch.autocast("cpu", torch.bfloat16):
                x = self.stem(x).float()
        else:
            x = self.stem(x)
        if "estimator" in self.features:
            x = Sign.apply(x)
        if "noise" in self.features and self.training:
            x = x + 0.1 * torch.randn_like(x)
        shared = (x > 2) if "mask" in self.features else None
        for block in self.blocks:
            x = block(x, shared)
        if "loop" in self.features:
            for layer in self.loop:
                x = x + torch.tanh(layer(x))
        if "sizes" in self.features and len(x) > 3:
            x = 2 * x
        if "attribute" in self.features:
            self.last = x.detach()
        if "buffer" in self.features and self.training:
            self.count += 1
        if "norm" in self.features:
            x = self.norm(x)
        out = self.head(x)
        if "auxiliary" in self.features and self.training:
            return out, self.aux(x)
        return {"logits": out} if "dictionary" in self.features else out


FEATURES = [
    *("no_grad", "autocast", "estimator", "noise", "mask", "loop", "sizes", "attribute", "buffer", "norm"),
    *("auxiliary", "dictionary"),
]
