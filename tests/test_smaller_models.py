"""Smaller models come back into whole ones, to be trained on; a file of another model changes nothing."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from feature_networks import WAYS, Features
from torch import nn

import layerprune
from layerprune.errors import LayerpruneError

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def made(*ways: str) -> nn.Module:
    return Features(ways).eval()


@pytest.mark.parametrize("way", WAYS)
def test_a_smaller_model_is_read_into_a_whole_one_and_trained_on(way: str, tmp_path: Path) -> None:
    model = made(way, "module", way)
    names = [each.name for each in layerprune.find_sections(model, X)]
    small = layerprune.remove(model, names[1:], X)
    layerprune.save(small, tmp_path / "small.safetensors")
    back = layerprune.load(tmp_path / "small.safetensors", into=made(way, "module", way))
    assert torch.equal(back(X), small(X)) and back.state_dict().keys() == small.state_dict().keys()
    back.train()(X).sum().backward()
    assert [each.name for each in layerprune.find_sections(back, X).removable] == names[:1]


def test_blocks_that_hand_on_come_back(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = torchvision.models.resnet18(num_classes=5).eval()
    small = layerprune.remove(model, ["layer1.0", "layer2.0", "layer4.1"], x)
    layerprune.save(small, tmp_path / "small.safetensors")
    back = layerprune.load(tmp_path / "small.safetensors", into=torchvision.models.resnet18(num_classes=5).eval())
    assert torch.equal(back(x), small(x)) and str(back) == str(small)


def test_a_file_of_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path, other = tmp_path / "small.safetensors", nn.Linear(4, 3)
    layerprune.save(layerprune.remove(made("module", "module"), ["blocks.0"], X), path)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(LayerpruneError, match="of another model than Linear"):
        layerprune.load(path, into=other)
    assert str(before) == str(other.state_dict())
    path.write_bytes(b"nothing")
    with pytest.raises(LayerpruneError, match="not a model that"):
        layerprune.load(path, into=other)


def test_only_sections_that_there_are_and_that_may_go_are_removed() -> None:
    with pytest.raises(LayerpruneError, match="there is no section 'blocks"):
        layerprune.remove(made("module"), ["blocks.7"], X)
