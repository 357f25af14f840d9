"""What the examples share: real digits, a training loop with room for the pruner, a line that says what is left."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from layerprune import ConcurrentPruner
from layerprune.core.data import digits

SIZE = 64
DATA = digits.load(Path())  # 1,797 images of 28 x 28 pixels, embedded in the package
STEPS_PER_EPOCH = -(-len(DATA.train) // SIZE)


def images(part: str, colours: int = 1) -> tuple[Tensor, Tensor]:
    """Images float [N, colours, 28, 28] and labels [N] of `train` or `test`."""
    split = getattr(DATA, part)
    return split.images.float().div(255).repeat(1, colours, 1, 1), split.labels


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    epochs: int,
    pruner: ConcurrentPruner | None = None,
) -> None:
    """Anybody's training loop, with a learning rate that falls: all that is new in it is pruner.step().

    Without a pruner it trains the dense network that the pruned one is compared with: same start, same batches.
    """
    order = torch.Generator().manual_seed(0)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        for part in torch.randperm(len(x), generator=order).split(SIZE):
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
            for name in pruner.step() if pruner is not None else []:
                print("removed", name)
        decay.step()


def report(name: str, model: nn.Module, sections: int, macs: int, x: Tensor, y: Tensor) -> None:
    """Sections, multiply-adds of one image, accuracy, and the median time of a batch of 32."""
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(1) == y).float().mean()
        milliseconds = 1000 * statistics.median(_seconds(lambda: model(x[:32])) for _ in range(30))
    print(f"{name:9} {sections:2} sections  {macs:11,} MACs  {100 * accuracy:.1f} %  {milliseconds:.2f} ms a batch")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
