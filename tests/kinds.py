"""Small networks, two or more of each kind that the library once failed on: made up anew, not those of the reports."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torchvision.ops import DeformConv2d

WIDTH = 8


def vectors(count: int = 3, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def tokens(count: int = 3, length: int = 5) -> Tensor:
    return torch.randn(count, length, WIDTH, generator=torch.Generator().manual_seed(1))


def images(size: int = 8, channels: int = WIDTH) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1))


class Block(nn.Module):
    """One sum, written by a function of the block, its input and what else is given."""

    def __init__(self, inner: nn.Module, **parts: Any) -> None:
        super().__init__()
        self.inner = inner
        for name, part in parts.items():
            setattr(self, name, part)


class Plain(Block):
    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x + self.inner(x)


class Chain(nn.Module):
    """Blocks one after the other, with a stem and a head."""

    def __init__(self, *blocks: nn.Module, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.blocks = stem or nn.Identity(), nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


def three(kind: type[Block], inner: Callable[[], nn.Module] = mlp, **parts: Callable[[], Any]) -> Chain:
    return Chain(*(kind(inner(), **{name: make() for name, make in parts.items()}) for _ in range(3)))


# --- R01, R27: residuals within residuals -----------------------------------------------------------------------


class InPlace(Block):
    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        out.add_(x)
        return out


class Gain(nn.Module):
    """ConvNeXt's response normalisation: a sum of its own, of next to no costs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(WIDTH)), nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=-1, keepdim=True)
        return x + self.weight * (x * size) + self.bias


class Skipping(Chain):
    """A skip around all, joined the other way round and subtracted."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return super().forward(x) - x


# --- R02: optional arguments ------------------------------------------------------------------------------------


class Optional(Chain):
    def forward(self, x: Tensor, scale: Tensor | None = None, *, targets: Tensor | None = None) -> Any:
        if scale is not None:
            x = x * scale[:, None]
        x = super().forward(x)
        return x if targets is None else (x, functional.mse_loss(x, targets.flatten(0).view_as(x)))


# --- R04, R06, R08: contexts, autograd functions, checkpoints ---------------------------------------------------


class Frozen(Chain):
    @torch.no_grad()
    def _features(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self._features(x)
        for block in self.blocks:
            with torch.set_grad_enabled(torch.is_grad_enabled()):
                x = block(x)
        return x


class Precise(Block):
    """Computes in more digits than what is around."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            rough = self.inner(x)
            with torch.autocast("cpu", enabled=False):
                fine = torch.tanh(rough.float() @ self.weight)
        return x + fine


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: int) -> Tensor:
        return (x * steps).round() / steps

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return slope, None


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope * ctx.saved_tensors[0].sign()


class Quantised(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + Rounded.apply(self.inner(Rounded.apply(x, 4)), 16)


class Adversarial(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + Reversed.apply(self.inner(x))


class Recomputed(Chain):
    def __init__(self, *blocks: nn.Module, reentrant: bool = False) -> None:
        super().__init__(*blocks, stem=nn.Linear(WIDTH, WIDTH))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant) if self.training else block(x)
        return x


class InSegments(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(nn.Sequential(*self.blocks), 2, self.stem(x), use_reentrant=False)


# --- R07, R28: sizes --------------------------------------------------------------------------------------------


class BySize(Chain):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 3 == 0:
            x = functional.pad(x, (1, 0, 1, 0))
        x = super().forward(x)
        return functional.interpolate(x, scale_factor=2) if x.size(2) > 8 else x


class OnGrid(Block):
    """Tokens go back to their grid, whose sides are handed on."""

    def forward(self, x: Tensor, sides: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        count, length, width = x.shape
        grid = x.transpose(1, 2).view(count, width, *sides)
        return x + self.inner(grid).flatten(2).transpose(1, 2).reshape(count, length, width), sides


class Grid(Chain):
    def forward(self, x: Tensor) -> Tensor:
        sides = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x, sides = block(x, sides)
        return x


class Windows(Block):
    """Windows of two, taken apart and put together by sizes."""

    def forward(self, x: Tensor) -> Tensor:
        count, width, height, breadth = x.shape
        parts = x.unflatten(2, (height // 2, 2)).unflatten(4, (breadth // 2, 2)).permute(0, 2, 4, 3, 5, 1)
        out = self.inner(parts.reshape(-1, 4, width))
        out = out.view(count, height // 2, breadth // 2, 2, 2, width).permute(0, 5, 1, 3, 2, 4)
        return x + out.reshape(count, width, height, breadth)


# --- R11: what is made once and used by all ---------------------------------------------------------------------


class Rotating(Chain):
    """Tables of positions, a mask of the input and a scale, for all blocks."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.register_buffer("angles", torch.linspace(0, 1, 32)[:, None])
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        table = (self.angles[: x.shape[1]].cos(), self.angles[: x.shape[1]].sin())
        absent, scale = x.mean(-1, keepdim=True) > 1, self.temperature.exp()
        for block in self.blocks:
            x = block(x, table, absent, scale)
        return x


class Attending(Block):
    def forward(self, x: Tensor, table: tuple[Tensor, Tensor], absent: Tensor, scale: Tensor) -> Tensor:
        q, k, v = self.inner(x).chunk(3, -1)
        q = q * table[0] + q.roll(1, -1) * table[1]
        return x + self.out(functional.scaled_dot_product_attention(q * scale, k, v).masked_fill(absent, 0.0))


class Conditioned(Chain):
    """Every block shifts by one embedding of a second input."""

    def forward(self, x: Tensor, when: Tensor) -> Tensor:
        shift = self.stem(when)
        for block in self.blocks:
            x = block(x, shift)
        return x


class Shifted(Block):
    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return x + self.inner(x * (1 + shift) + shift)


# --- R12, R19: what is done in training alone -------------------------------------------------------------------


class Supervised(Chain):
    """Deep supervision: a head behind every block, in training."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 2) for _ in blocks)

    def forward(self, x: Tensor) -> Any:
        outputs = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x)
            if self.training:
                outputs.append(head(x))
        return {"out": x, "auxiliary": outputs} if self.training else {"out": x}


class Dropping(Block):
    """Stochastic depth by example, and a count of batches in a buffer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.register_buffer("batches", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        if self.training:
            self.batches += 1
            out = out.div(0.8) * torch.empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.8)
        return x + out


class Functional(Block):
    """Normalises and drops by functions that follow the mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("variance", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.batch_norm(self.inner(x), self.mean, self.variance, training=self.training)
        return functional.dropout(out, 0.4, self.training) + x


# --- R14: in place at a branch's head and end -------------------------------------------------------------------


class Eager(Block):
    """The branch's activation changes the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(functional.leaky_relu_(x, 0.3)) + x


class Clamped(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = 1.5 * x
        y = x.clamp_(-1, 1)
        y = self.inner(y)
        y += x
        return y.relu_()


# --- R17: layers of torch.nn that hold sums ---------------------------------------------------------------------


class Translating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x, x.flip(1))


def encoder(first: bool, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=first, norm_first=norm_first, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


# --- R24: dictionaries, by name and nested ----------------------------------------------------------------------


class OfBatch(Chain):
    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        x = super().forward(batch["inputs"]["first"]) * batch["weights"][:, None]
        return {"outputs": [x, {"norm": x.norm(dim=1)}]}


class ByName(Chain):
    def forward(self, *, left: Tensor, right: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = super().forward(left + right)
        return x, {"left": left}


# --- smaller ones: ways to write a sum --------------------------------------------------------------------------


class Written(Block):
    def __init__(self, inner: nn.Module, way: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(inner)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x, self.inner(x))


class Differing(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = x - self.inner(x)
        x = torch.sub(x, self.second(x), alpha=2)
        return 0.6 * x + 0.4 * self.third(x)


class Listed(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = sum((self.inner(x), x))
        return sum([x, self.second(x)])


class Projected(Block):
    """A shortcut through a norm."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + self.inner(x)


class FrozenNorm(nn.Module):
    """Detection's batch norm, whose numbers are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.rand(WIDTH))
        self.register_buffer("bias", torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def added(x: Tensor, branch: Tensor, rate: float, training: bool) -> Tensor:
    """What several published networks have beside their modules."""
    return x + functional.dropout(branch, rate, training)


class InFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = added(x, torch.tanh(self.inner(x)), 0.1, self.training)
        return added(x, self.second(x) * 0.5, rate=0.2, training=self.training)


class InStatic(Block):
    @staticmethod
    def joined(branch: Tensor, x: Tensor) -> Tensor:
        branch += x
        return branch

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(torch.sigmoid(self.inner(x)) * 0.5, x)


class Recurrent(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)[0]


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("not today")


class Caught(Block):
    """Goes on where a module within has raised an error."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            return x + self.refusing(x)
        except ValueError:
            return x + self.inner(x)


def offsets() -> nn.Module:
    return nn.Conv2d(WIDTH, 2 * 9, 3, 1, 1)


def deformed() -> nn.Module:
    return DeformConv2d(WIDTH, WIDTH, 3, 1, 1)


class Deformable(Block):
    """With offsets that a convolution says."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.deformed(x, self.inner(x))


class Modulated(Deformable):
    """With offsets and masks, which are parts of what one convolution says."""

    def forward(self, x: Tensor) -> Tensor:
        offsets, masks = self.inner(x).split([2 * 9, 9], dim=1)
        return x + self.deformed(x, offsets, torch.sigmoid(masks))


class Asked(Block):
    """With a sum within whose code asks for a size that nobody knows, so that this cannot go; it has most of the
    multiply-adds."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        several = self.second(y)
        return x + torch.tanh(y + several.sum(1) / several.shape[1])


def linear() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH)


def several() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.Unflatten(1, (2, WIDTH)))


class OfHalves(Block):
    """Adds one part of what a function puts out."""

    def forward(self, x: Tensor) -> Tensor:
        first, _ = self.inner(x).chunk(2, dim=-1)
        return x + first


# --- the axis of the batch --------------------------------------------------------------------------------------


class TimeFirst(nn.Module):
    """Examples are the second dimension inside, and the first outside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


class Flattened(Block):
    """Examples and their tokens are one dimension of what is added."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        return (flat + self.inner(flat)).view_as(x)


class FlattenedAcross(Block):
    """The same, the other way round: tokens, and their examples."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.transpose(0, 1).reshape(-1, x.shape[-1])
        return (flat + self.inner(flat)).view(x.shape[1], x.shape[0], -1).transpose(0, 1)


class ChannelsOfAll(Block):
    """Examples are the last dimension of what is added."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.t()
        x = x + self.inner(x.t()).t()
        return x.t()


def _conditioned() -> nn.Module:
    return Conditioned(*(Shifted(mlp()) for _ in range(3)), stem=nn.Linear(1, WIDTH))


def _attending() -> nn.Module:
    blocks = [Attending(nn.Linear(WIDTH, 3 * WIDTH), out=nn.Linear(WIDTH, WIDTH)) for _ in range(3)]
    return Rotating(*blocks)


def _stem(kind: type[Chain], block: type[Block] = Plain) -> nn.Module:
    return kind(*(block(mlp()) for _ in range(3)), stem=nn.Linear(WIDTH, WIDTH))


def _gained() -> nn.Module:
    return three(Plain, lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), Gain(), nn.Linear(WIDTH, WIDTH)))


def _long() -> nn.Module:
    return Skipping(*(InPlace(convolutions()) for _ in range(3)), stem=nn.Conv2d(WIDTH, WIDTH, 1))


def _written(way: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], tuple[nn.Module, Any]]:
    return lambda: (three(Written, way=lambda: way), (vectors(),))


Made = tuple[nn.Module, Any]
KINDS: dict[str, tuple[int, Callable[[], Made]]] = {
    "R01 a skip around all": (3, lambda: (_long(), (images(),))),
    "R01 a small sum within": (3, lambda: (_gained(), (tokens(),))),
    "R02 left out": (3, lambda: (_stem(Optional), (vectors(),))),
    "R02 given": (3, lambda: (_stem(Optional), {"x": vectors(), "scale": torch.rand(3), "targets": vectors()})),
    "R04 without gradients": (3, lambda: (_stem(Frozen), (vectors(),))),
    "R04 more digits": (3, lambda: (three(Precise, weight=lambda: nn.Parameter(torch.eye(WIDTH))), (vectors(),))),
    "R06 straight through": (3, lambda: (three(Quantised), (vectors(),))),
    "R06 reversed": (3, lambda: (_stem(Chain, Adversarial), (vectors(),))),
    "R07 padded": (3, lambda: (three_of_convolutions(BySize), (images(9),))),
    "R07 windows": (3, lambda: (three(Windows), (images(),))),
    "R08 checkpoint": (3, lambda: (Recomputed(*(Dropping(mlp()) for _ in range(3))), (vectors(),))),
    "R08 reentrant": (3, lambda: (Recomputed(*(Plain(mlp()) for _ in range(3)), reentrant=True), (vectors(),))),
    "R08 segments": (4, lambda: (InSegments(*(Plain(mlp()) for _ in range(4)), stem=mlp()), (vectors(),))),
    "R11 tables and masks": (3, lambda: (_attending(), (tokens(),))),
    "R11 an embedding": (3, lambda: (_conditioned(), (vectors(), torch.rand(3, 1)))),
    "R12 deep supervision": (3, lambda: (Supervised(*(Plain(mlp()) for _ in range(3))), (vectors(),))),
    "R12 stochastic depth": (3, lambda: (three(Dropping), (vectors(),))),
    "R14 a function": (3, lambda: (_stem(Chain, Eager), (vectors(),))),
    "R14 a method": (3, lambda: (_stem(Chain, Clamped), (vectors(),))),
    "R17 encoder": (4, lambda: (encoder(True, True), (tokens(),))),
    "R17 decoder": (6, lambda: (Translating(), (tokens(),))),
    "R19 functions of the mode": (3, lambda: (three(Functional), (vectors(6),))),
    "R24 nested": (
        3,
        lambda: (_stem(OfBatch), {"batch": {"inputs": {"first": vectors()}, "weights": torch.rand(3)}}),
    ),
    "R24 by name": (3, lambda: (_stem(ByName), {"left": vectors(), "right": vectors().flip(0)})),
    "R28 handed on": (
        3,
        lambda: (
            Grid(*(OnGrid(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)) for _ in range(3))),
            (images(4),),
        ),
    ),
    "differences": (9, lambda: (three(Differing, second=mlp, third=mlp), (vectors(),))),
    "lists": (6, lambda: (three(Listed, second=mlp), (vectors(),))),
    "alpha": (3, _written(lambda x, f: torch.add(x, f, alpha=0.3))),
    "operator": (3, _written(operator.add)),
    "augmented": (3, _written(lambda x, f: operator.iadd(1.5 * x, f))),
    "group norm": (3, lambda: (three(Projected, convolutions, norm=lambda: nn.GroupNorm(2, WIDTH)), (images(),))),
    "frozen norm": (3, lambda: (three(Projected, convolutions, norm=FrozenNorm), (images(),))),
    "in a function": (6, lambda: (three(InFunction, second=mlp), (vectors(),))),
    "in a static method": (3, lambda: (three(InStatic), (vectors(),))),
    "recurrent": (3, lambda: (three(Recurrent, lambda: nn.GRU(WIDTH, WIDTH, batch_first=True)), (tokens(),))),
    "recurrent, at once": (3, lambda: (three(Recurrent, lambda: nn.LSTM(WIDTH, WIDTH, batch_first=True)), (tokens(),))),
    "an error is caught": (3, lambda: (three(Caught, refusing=Refusing), (vectors(),))),
    "deformable": (3, lambda: (three(Deformable, offsets, deformed=deformed), (images(),))),
    "what is within cannot go": (
        3,
        lambda: (three(Asked, lambda: nn.Linear(WIDTH, WIDTH), second=several), (vectors(),)),
    ),
    "modulated": (
        3,
        lambda: (three(Modulated, lambda: nn.Conv2d(WIDTH, 3 * 9, 3, 1, 1), deformed=deformed), (images(),)),
    ),
    "halves": (3, lambda: (three(OfHalves, lambda: nn.Linear(WIDTH, 2 * WIDTH)), (vectors(),))),
    "axis: time first": (4, lambda: (TimeFirst(encoder(False, False)), (tokens(),))),
    "axis: several places of each": (3, lambda: (three(Flattened), (tokens(),))),
    "axis: last": (3, lambda: (three(ChannelsOfAll), (vectors(),))),
}


def three_of_convolutions(kind: type[Chain]) -> nn.Module:
    return kind(*(Plain(convolutions()) for _ in range(3)))
