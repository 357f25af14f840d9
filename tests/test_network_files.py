"""layerprune.save and layerprune.load: one file, no pickled classes, the same network."""

import copy
import zipfile
from pathlib import Path

import pytest
import torch
from networks import enliven, images, make
from torch import nn
from torch.nn import functional

import layerprune
from layerprune.core import surgery
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.networks.storage import describe
from layerprune.errors import LayerpruneError

ARCHS = {"lenet5": [1, 0, 1], "mlp-residual-5": [1, 0, 0, 1, 0], "resnet-20": [1, 0, 1, 1, 0, 1, 1, 1, 0]}


def pruned(arch: str) -> SectionedNetwork:
    network = enliven(make(arch))
    surgery.remove_all_but(network, ARCHS[arch][: len(network.sections)])
    surgery.fold(network)
    return network


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_of_this_package_comes_back_from_one_file_as_it_was(arch: str, tmp_path: Path) -> None:
    network = pruned(arch)
    before = copy.deepcopy(network.state_dict())
    layerprune.save(network, tmp_path / "network.pt")
    again = layerprune.load(tmp_path / "network.pt")
    assert isinstance(again, SectionedNetwork) and describe(again) == describe(network) and not again.training
    assert torch.equal(again(images(3)), network(images(3)))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert again.keep() == network.keep() and [path.name for path in tmp_path.iterdir()] == ["network.pt"]


def test_it_can_be_trained_on_and_pruned_on(tmp_path: Path) -> None:
    layerprune.save(pruned("mlp-residual-5"), tmp_path / "network.pt")
    again = layerprune.load(tmp_path / "network.pt").train()
    functional.cross_entropy(again(images(4)), torch.arange(4)).backward()
    assert all(each.requires_grad and each.grad is not None for each in again.parameters())
    surgery.remove(again, [0])
    assert again.eval()(images(2)).shape == (2, 10)


def test_numbers_of_half_the_size_stay_so(tmp_path: Path) -> None:
    layerprune.save(make("lenet5").bfloat16(), tmp_path / "network.pt")
    assert {each.dtype for each in layerprune.load(tmp_path / "network.pt").parameters()} == {torch.bfloat16}


def test_the_file_names_no_class_of_this_package(tmp_path: Path) -> None:
    layerprune.save(pruned("resnet-20"), tmp_path / "network.pt")
    with zipfile.ZipFile(tmp_path / "network.pt") as archive:
        (pickled,) = (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert b"layerprune" not in pickled and b"torch.nn" not in pickled
    assert set(torch.load(tmp_path / "network.pt", weights_only=True)) == {"network", "weights"}


def test_with_an_example_it_becomes_a_program_for_those_without_this_package(tmp_path: Path) -> None:
    network = pruned("lenet5")
    layerprune.save(network, tmp_path / "network.pt2", images(1))
    again = layerprune.load(tmp_path / "network.pt2")
    assert not isinstance(again, SectionedNetwork)
    torch.testing.assert_close(again(images(3)), network(images(3)))


def test_a_module_of_another_package_is_a_program_and_wants_an_example(tmp_path: Path) -> None:
    module, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), torch.randn(3, 4)
    with pytest.raises(LayerpruneError, match=r"save: a Sequential is saved as a program: give save an example_input"):
        layerprune.save(module, tmp_path / "module.pt2")
    layerprune.save(module, tmp_path / "module.pt2", x)
    torch.testing.assert_close(layerprune.load(tmp_path / "module.pt2")(x[:1]), module(x[:1]))


def test_a_file_that_is_none_of_both_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    layerprune.save(make("lenet5"), path)
    whole = torch.load(path, weights_only=True)
    spoilt = {
        "weights of another": {**whole, "weights": make("lenet-300-100").state_dict()},
        "a plain state": whole["weights"],
        "no weights": {**whole, "weights": 3},
        "a list": [1, 2],
    }
    for content in spoilt.values():
        torch.save(content, path)
        with pytest.raises(
            LayerpruneError, match=r"some.pt: not a network that layerprune.save has written: "
        ) as error:
            layerprune.load(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"nothing")
    with pytest.raises(LayerpruneError, match=r"some.pt: not a program of torch.export"):
        layerprune.load(path)
