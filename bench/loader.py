"""Our loader against torchvision's DataLoader with transforms, an epoch of MNIST-sized images each."""

from collections.abc import Iterable

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.networks import made_up_data
from bench.timing import Comparison, compare
from layerprune.data.batches import TrainingBatches
from layerprune.data.dataset import DataSet
from layerprune.runner import choose_device

BATCH = 128


class Images(Dataset):
    """What torchvision.datasets.MNIST yields: a PIL image, transformed, and its label."""

    def __init__(self, data: DataSet, transform: transforms.Compose) -> None:
        self.images, self.labels = data.train.images.cpu().squeeze(1).numpy(), data.train.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index], mode=None)), self.labels[index]


def ours_against_torchvision(images: int, rounds: int) -> list[Comparison]:
    """Time of one epoch of batches on the device, for either augmentation and 0 or 2 workers."""
    data = made_up_data(images, choose_device("auto"))
    return [_compare(data, augment, workers, rounds) for augment in ("none", "shift") for workers in (0, 2)]


def _compare(data: DataSet, augment: str, workers: int, rounds: int) -> Comparison:
    device = choose_device("auto")
    ours = TrainingBatches(data.train, data.mean, data.std, BATCH, 0, augment, device)
    crop = [transforms.RandomCrop(28, padding=2)] if augment == "shift" else []
    transform = transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
    theirs = DataLoader(
        Images(data, transform), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    name = f"epoch of our batches / DataLoader with {workers} workers: augment {augment}"
    epochs = iter(range(10**9))
    return compare(
        name,
        lambda: _exhaust(ours.epoch(next(epochs)), device),
        lambda: _exhaust(theirs, device),
        rounds,
        warmup=1,
        target="at most 0.33",
    )


def _exhaust(batches: Iterable, device: torch.device) -> None:
    for images, labels in batches:
        images.to(device), labels.to(device)
