"""CIFAR training as well-known ResNet repositories write it: what bench.throughput compares ours with.

A plain network of blocks with option-A shortcuts (He et al., CVPR 2016, arXiv 1512.03385, section 4.2; ours of the same
depth has as many MACs and parameters), contiguous (NCHW) float32, eager; torchvision's CIFAR10 of PIL images behind a
DataLoader; torch's SGD as it comes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import CIFAR10

from layerprune.core.data.dataset import DataSet
from layerprune.core.timing import CPU
from layerprune.core.training.engine import autocast

ENDLESS = 10**9


class Block(nn.Module):
    """relu(S(x) + BN(conv(relu(BN(conv(x)))))); S subsamples and pads with zero channels where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.missing = stride, channels - before

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if not self.missing:
            return x
        half = self.missing // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.missing - half))


class ResNet(nn.Module):
    """ResNet of depth 6n + 2 for images [B, 3, 32, 32]; logits [B, classes]."""

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        blocks, before = [], 16
        for channels in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(Block(before, channels, stride=1 if before == channels else 2))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(functional.avg_pool2d(out, out.shape[3]).flatten(1))


def loader(data: DataSet, batch: int, workers: int) -> DataLoader:
    """Batches without end of the training split; the images are made up, the class and its PIL images torchvision's.

    Without end: a new epoch would fill the workers' queue anew in whichever turn it fell. As it is the queue is full
    before and after each turn, so that a turn's steps load as many batches as they use.
    """
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data = data.train.images.permute(0, 2, 3, 1).contiguous().numpy()
    dataset.targets = data.train.labels.tolist()
    augmentation = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    steps = [*augmentation, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    dataset.transform, dataset.target_transform = transforms.Compose(steps), None
    sampler = RandomSampler(dataset, num_samples=ENDLESS)
    return DataLoader(dataset, batch, sampler=sampler, num_workers=workers)


def training(
    depth: int,
    batches: DataLoader,
    lr: float,
    momentum: float,
    weight_decay: float,
    device: torch.device = CPU,
    precision: str = "fp32",
) -> Callable[[], float]:
    """A call that makes one training step, loading included, and returns its loss."""
    network = ResNet(depth).train().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    criterion, source = nn.CrossEntropyLoss(), iter(batches)

    def step() -> float:
        images, labels = (each.to(device) for each in next(source))
        with autocast(precision, device):
            loss = criterion(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()  # such loops print a running mean

    return step
