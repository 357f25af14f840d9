"""Checkpoints of torchvision's ResNets, which `imagenet-resnet-*` agree with weight by weight.

conv1, bn1, layer<stage>.<place>.{conv1, bn1, conv2, bn2[, conv3, bn3][, downsample.0, downsample.1]}, fc
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from layerprune.core.networks.layouts.names import Names, load_renamed, names_by_layer, renamed
from layerprune.core.networks.sections import Section, SectionedNetwork

_ENDS = {"stem.0": "conv1", "stem.1": "bn1", "head.2": "fc"}
_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def to_torchvision(network: SectionedNetwork) -> dict[str, Tensor]:
    """A whole ResNet's weights under torchvision's names. Raises LayerpruneError for a network without such names."""
    return renamed(network, _names(network))


def load_torchvision(network: SectionedNetwork, checkpoint: Mapping[str, Any]) -> None:
    """Fill a ResNet with a state dict of torchvision's, or with a checkpoint of its reference scripts' kind.

    Raises LayerpruneError for a network that has no such names, and for weights that do not fit; then nothing changes.
    """
    model = checkpoint.get("model")  # under which torchvision's references/classification keeps them
    load_renamed(network, _names(network), model if isinstance(model, Mapping) else checkpoint)


def _names(network: SectionedNetwork) -> Names:
    sections = enumerate(network.chain)
    layers = _ENDS | {ours: theirs for index, section in sections for ours, theirs in _layers(index, section)}
    return names_by_layer(network, layers, "torchvision", "ImageNet ResNets")


def _layers(index: int, section: Section) -> Iterator[tuple[str, str]]:
    """Layers with weights of one section: their names here and there."""
    theirs = section.name.replace("stage", "layer")
    count = len(section.branch) if isinstance(section.branch, nn.Sequential) else 0
    for place, name in _BRANCH.items():
        if int(place) < count:
            yield f"chain.{index}.branch.{place}", f"{theirs}.{name}"
    if not section.preserves_shape:
        for place in ("0", "1"):
            yield f"chain.{index}.shortcut.{place}", f"{theirs}.downsample.{place}"
