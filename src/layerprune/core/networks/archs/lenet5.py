"""LeNet-5 in the 20-50-500 form that the pruning literature uses, with linear shortcuts around its three sections.

    conv1: 1x28x28 -> conv 5x5, 20 -> max-pool -> relu -> conv 5x5, 50         shortcut: mean-pool -> conv 7x7
    conv2: 50x8x8  -> max-pool -> relu -> linear 800 -> 500                    shortcut: mean-pool -> linear
    fc1:   500     -> relu -> linear 500 -> classes                            shortcut: linear
A mean-pool and a 7x7 convolution see exactly what the branch of conv1 sees (14x14 pixels, stride 2) at a twelfth of its
MACs. ReLU follows the pooling: the two commute, and it then works on a quarter of the numbers. Without all three
sections a linear classifier is left.
"""

from collections.abc import Sequence

from torch import nn

from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.errors import LayerpruneError

VERSION = 1
BATCH_NORM = False
"""Whether branches contain batch normalisation."""
CLOSING_NORM = False
"""Whether branches end in batch normalisation."""


def build(arch: str, input_shape: Sequence[int], classes: int) -> SectionedNetwork:
    """The network for 28x28 images; three sections. Raises LayerpruneError for another size."""
    channels, *size = input_shape
    if size != [28, 28]:
        raise LayerpruneError(f"{arch}: needs 28x28 images, not {'x'.join(map(str, size))}")
    conv1 = nn.Sequential(nn.Conv2d(channels, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5))
    conv2 = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(800, 500))
    fc1 = nn.Sequential(nn.ReLU(), nn.Linear(500, classes))
    sections = [
        Section("conv1", conv1, nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, 50, 7, bias=False))),
        Section("conv2", conv2, nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(800, 500, bias=False))),
        Section("fc1", fc1, nn.Linear(500, classes, bias=True)),
    ]
    return SectionedNetwork(arch, input_shape, nn.Identity(), sections, nn.Identity())
