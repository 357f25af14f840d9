"""LeNet-300-100 (LeCun et al. 1998) with a linear shortcut around each of its two nonlinear sections.

    fc1: y = S1 x + W2 relu(W1 x)    784 -> 300 -> 100
    fc2: z = S2 y + W3 relu(y)       100 -> 10
Without both sections a linear classifier is left. A section's name is that of the hidden layer it carries.
"""

import math
from collections.abc import Sequence

from torch import nn

from layerprune.core.networks.sections import Section, SectionedNetwork

VERSION = 1
BATCH_NORM = False
"""Whether branches contain batch normalisation."""
CLOSING_NORM = False
"""Whether branches end in batch normalisation."""


def build(arch: str, input_shape: Sequence[int], classes: int) -> SectionedNetwork:
    """The network for images of `input_shape` [C, H, W]; two sections."""
    pixels = math.prod(input_shape)
    hidden = nn.Sequential(nn.Linear(pixels, 300), nn.ReLU(), nn.Linear(300, 100))
    output = nn.Sequential(nn.ReLU(), nn.Linear(100, classes))
    sections = [
        Section("fc1", hidden, nn.Linear(pixels, 100, bias=False)),
        Section("fc2", output, nn.Linear(100, classes, bias=True)),
    ]
    return SectionedNetwork(arch, input_shape, nn.Flatten(), sections, nn.Identity())
