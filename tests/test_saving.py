"""A network on disk comes back as it was, and a damaged or foreign file is named in one line."""

import copy
import json
from pathlib import Path

import pytest
import torch
from networks import images, make

from layerprune.core import surgery
from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.errors import LayerpruneError


@pytest.fixture
def saved(tmp_path: Path) -> tuple[SectionedNetwork, Path, Path]:
    network = make("lenet5")
    surgery.remove_all_but(network, [1, 0, 1])
    surgery.fold(network)
    places = tmp_path / "arch.json", tmp_path / "weights.safetensors"
    storage.save(network, *places)
    return network, *places


def test_a_network_comes_back_with_the_same_logits_bit_for_bit(saved) -> None:
    network, arch, weights = saved
    assert torch.equal(storage.load(arch, weights)(images(3)), network(images(3)))


def test_saving_leaves_the_network_as_it_was(saved) -> None:
    network, arch, weights = saved
    before = copy.deepcopy(network.state_dict())
    storage.save(network, arch, weights)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_equal_networks_make_equal_files(saved, tmp_path: Path) -> None:
    network, arch, weights = saved
    again = tmp_path / "again.json", tmp_path / "again.pt"
    storage.save(copy.deepcopy(network), *again)
    assert again[0].read_bytes() == arch.read_bytes()
    assert again[1].read_bytes() == weights.read_bytes()


def test_the_description_names_every_layer_with_its_sizes(saved) -> None:
    described = json.loads(saved[1].read_text())
    assert [section["name"] for section in described["sections"]] == ["conv1", "conv2", "fc1"]
    assert described["sections"][1]["branch"] is None
    assert described["sections"][0]["branch"]["layers"][-1] == {
        "type": "conv",
        "in": 20,
        "out": 50,
        "kernel": [5, 5],
        "stride": [1, 1],
        "padding": [0, 0],
        "bias": True,
    }


def test_weights_of_another_architecture_are_refused(saved, tmp_path: Path) -> None:
    other = make("lenet-300-100")
    storage.save(other, tmp_path / "other.json", tmp_path / "other.pt")
    with pytest.raises(LayerpruneError, match=r"other\.pt.*another architecture"):
        storage.load(saved[1], tmp_path / "other.pt")


def test_truncated_weights_are_refused_by_name(saved) -> None:
    _, arch, weights = saved
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(LayerpruneError, match=r"weights\.pt: corrupt") as caught:
        storage.load(arch, weights)
    assert "\n" not in str(caught.value)


class _Anything:
    pass


def test_weights_that_carry_code_are_not_run(saved) -> None:
    _, arch, weights = saved
    torch.save({"stem": _Anything()}, weights)
    with pytest.raises(LayerpruneError, match=r"weights\.pt"):
        storage.load(arch, weights)


@pytest.mark.parametrize("text", ["{}", "[]", '{"stem": 3}', "not json", '{"arch": "x", "sections": [1]}'])
def test_a_malformed_description_is_refused_by_name(saved, text: str) -> None:
    _, arch, weights = saved
    arch.write_text(text)
    with pytest.raises(LayerpruneError, match=r"arch\.json"):
        storage.load(arch, weights)


def test_a_layer_that_cannot_be_described_is_said_so() -> None:
    network = make("mlp-residual-2")
    network.head = torch.nn.Sequential(torch.nn.BatchNorm1d(100), network.head)
    with pytest.raises(LayerpruneError, match="BatchNorm1d"):
        storage.describe(network)


def test_a_saved_network_still_knows_which_activation_goes_with_its_branch(tmp_path: Path) -> None:
    places = tmp_path / "arch.json", tmp_path / "weights.safetensors"
    storage.save(make("resnet-8", shape=(3, 32, 32)), *places)
    again = storage.load(*places)
    surgery.remove(again, [0])
    assert again.chain[0].transparent


def test_the_description_says_nothing_of_activations_that_stay(saved, tmp_path: Path) -> None:
    assert "activation_if_removed" not in saved[1].read_text()
    network = make("resnet-8", shape=(3, 32, 32))
    surgery.remove_all_but(network, [0, 0, 0])
    assert "activation_if_removed" not in json.dumps(storage.describe(network))
