"""Our batches against torchvision's MNIST with transforms in a DataLoader: images a second, ours over theirs."""

from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from bench.steps import BATCH, made_up_data
from bench.timing import Measurement, compare
from layerprune.core.data.batches import TrainingBatches
from layerprune.core.data.dataset import DataSet

CROPS = {"none": [], "shift": [transforms.RandomCrop(28, padding=2)]}


def torchvision_loader(data: DataSet, augment: str, workers: int) -> DataLoader:
    """What a training script would write; the images are made up, the class and its PIL images are torchvision's."""
    dataset = MNIST.__new__(MNIST)
    dataset.data, dataset.targets = data.train.images.squeeze(1), data.train.labels
    steps = [*CROPS[augment], transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    dataset.transform, dataset.target_transform = transforms.Compose(steps), None
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def drain(batches: Iterable) -> None:
    """Go through an epoch; both sides deliver normalised float32 images and int64 labels."""
    for images, labels in batches:
        assert images.dtype == torch.float32 and labels.dtype == torch.int64


def against_torchvision(augment: str, workers: int, images: int, rounds: int) -> Measurement:
    """How many times as many images a second ours gives: their time over ours."""
    data = made_up_data(images)
    ours = TrainingBatches(data.train, data.mean, data.std, BATCH, seed=0, augment=augment)
    theirs = torchvision_loader(data, augment, workers)
    name = f"our loader / DataLoader with {workers} workers, augment {augment}"
    return compare(name, lambda: drain(ours.epoch(0)), lambda: drain(theirs), rounds, ">= 3")


def measure(rounds: int, images: int) -> Iterator[Measurement]:
    """Both augmentations, in this process and with two workers."""
    for augment in CROPS:
        for workers in (0, 2):
            yield against_torchvision(augment, workers, images, rounds)
