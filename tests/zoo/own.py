"""Small networks of our own for the zoo: what published ones are made of, one thing each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 8


class Residual(nn.Module):
    """x + f(x) around any module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class InPlace(nn.Module):
    """A block of super-resolution networks: the sum is written into the branch."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        res = self.body(x)
        res += x
        return res


class LongSkip(nn.Module):
    """EDSR: a skip around all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, WIDTH, 3, 1, 1), nn.Conv2d(WIDTH, 3, 3, 1, 1)
        self.body = nn.Sequential(InPlace(), InPlace(), InPlace(), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        res = self.body(x)
        res += x
        return self.tail(res)


class UNet(nn.Module):
    """Skips that are concatenated, with residual blocks on every level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, 1, 1)
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.outer, self.inner, self.after = InPlace(), InPlace(), InPlace(2 * WIDTH)
        self.head = nn.Conv2d(2 * WIDTH, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.outer(self.stem(x))
        low = self.inner(self.down(high))
        joined = torch.cat([high, functional.interpolate(low, size=high.shape[-2:])], 1)
        return self.head(self.after(joined))


class CharacterModel(nn.Module):
    """nanoGPT: a causal transformer, whose mask is a buffer, and whose loss is computed where targets are given."""

    def __init__(self, layers: int = 3, width: int = 16) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, width), nn.Embedding(32, width)
        self.attentions = nn.ModuleList(nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(layers))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.head = nn.Linear(width, 50)
        self.register_buffer("mask", torch.triu(torch.ones(32, 32, dtype=torch.bool), 1))

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> Any:
        length = ids.shape[1]
        x = self.tokens(ids) + self.positions(torch.arange(length, device=ids.device))
        mask = self.mask[:length, :length]
        for place, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            y = self.norms[2 * place](x)
            x = x + attention(y, y, y, attn_mask=mask, need_weights=False)[0]
            x = x + mlp(self.norms[2 * place + 1](x))
        logits = self.head(x)
        if targets is None:
            return logits
        return logits, functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Tower(nn.Module):
    """Height and width are handed from block to block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDTH, 4, 4), nn.Linear(WIDTH, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.convolutions = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        size = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            grid = norm(x).transpose(1, 2).unflatten(2, size)
            x = x + convolution(grid).flatten(2).transpose(1, 2)
        return self.head(x.mean(1))


class Diffusion(nn.Module):
    """A denoiser: a time embedding that every block uses."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.stem, self.head = nn.Conv2d(3, WIDTH, 3, 1, 1), nn.Conv2d(WIDTH, 3, 3, 1, 1)
        self.first = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1) for _ in range(3))
        self.scales = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.second = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1) for _ in range(3))

    def forward(self, x: Tensor, when: Tensor) -> Tensor:
        time = self.time(when[:, None])
        x = self.stem(x)
        for first, scale, second in zip(self.first, self.scales, self.second, strict=True):
            x = x + second(functional.silu(first(x) + scale(time)[:, :, None, None]))
        return self.head(x)


class TabularInputs(nn.Module):
    """A dictionary of two tensors as the one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.kinds, self.head = nn.Linear(4, WIDTH), nn.Embedding(6, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(
            Residual(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)))
            for _ in range(3)
        )

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = self.numbers(batch["numbers"]) + self.kinds(batch["kinds"])
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Waves(nn.Module):
    """WaveNet: gated one-dimensional convolutions, whose skips are summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv1d(1, WIDTH, 1), nn.Conv1d(WIDTH, 2, 1)
        self.filters = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=2**k, dilation=2**k) for k in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=2**k, dilation=2**k) for k in range(3))
        self.outputs = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for filters, gates, output in zip(self.filters, self.gates, self.outputs, strict=True):
            x = x + output(torch.tanh(filters(x)) * torch.sigmoid(gates(x)))
        return self.head(x)


def _vectors() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def _images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _ids() -> Tensor:
    return torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(1))


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.Sequential(nn.Linear(4, 16), nn.TransformerEncoder(layer, 3), nn.Linear(16, 5))


def _mixed() -> nn.Module:
    blocks = [Residual(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1))) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), *blocks, nn.Flatten(), nn.Linear(WIDTH * 196, 5))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "long-skip": lambda: (LongSkip(), _images()),
    "u-net": lambda: (UNet(), _images()),
    "character-model": lambda: (CharacterModel(), _ids()),
    "tower": lambda: (Tower(), _images()),
    "diffusion": lambda: (Diffusion(), (_images(), torch.rand(2))),
    "tabular": lambda: (TabularInputs(), {"numbers": _vectors(), "kinds": torch.tensor([0, 3, 5])}),
    "waves": lambda: (Waves(), torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(1))),
    "torch-encoder": lambda: (_encoder(), torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))),
    "in-place-activation": lambda: (_mixed(), _images()),
}
