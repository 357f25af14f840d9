"""A trained network without random sets of its sections, and without further training (claim C2).

Each keep list has its own number of removed sections, drawn evenly from 1 to all of them, and then the sections. Of
each the smaller network's accuracy and the equivalence gap are noted. Derived: the paper says that information flows
past a section that is gone; Veit, Wilber and Belongie (NeurIPS 2016) removed layers of trained ResNets in the same way.
"""

from typing import Any

import torch

from layerprune.core.methods.experiments._input import ExperimentInput
from layerprune.core.seeding import generator
from layerprune.core.settings import RandomRemovalSettings

VERSION = 1


def measure(settings: RandomRemovalSettings, inputs: ExperimentInput) -> dict[str, Any]:
    """For each keep list `keep_lists`, `accuracies` on the validation split, and `gaps`; and what to compare them
    with."""
    keeps = draw_keep_lists(settings.lists, len(inputs.network.sections), inputs.seed)
    accuracies, gaps = [], []
    for keep in keeps:
        smaller = inputs.without(keep)
        accuracies.append(inputs.accuracy(smaller))
        gaps.append(inputs.gap(keep, smaller))
    whole = inputs.accuracy(inputs.network)
    sizes = {"whole_accuracy": whole, "classes": inputs.classes, "images": inputs.images_seen}
    return {"keep_lists": keeps, "accuracies": accuracies, "gaps": gaps} | sizes


def draw_keep_lists(count: int, sections: int, seed: int) -> list[list[int]]:
    """`count` lists of so many entries, 0 for a section that goes; at least one goes."""
    source = generator("random removal", seed)
    lists = []
    for _ in range(count):
        removed = int(torch.randint(1, sections + 1, (1,), generator=source))
        gone = set(torch.randperm(sections, generator=source)[:removed].tolist())
        lists.append([int(index not in gone) for index in range(sections)])
    return lists
