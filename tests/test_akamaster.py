"""Weights travel to akamaster's names and back; a network written in that repository's way gives the same logits."""

import copy
from collections import OrderedDict

import pytest
import torch
from networks import images, source
from test_cifar_networks import COLOUR, lively
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core import surgery
from layerprune.core.networks.build import build
from layerprune.core.networks.pretrained import load_akamaster, to_akamaster
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError

BN = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
BLOCKS = ["layer1.0", "layer1.1", "layer1.2", "layer2.0", "layer2.1", "layer2.2", "layer3.0", "layer3.1", "layer3.2"]
RESNET_20 = ["conv1.weight", *(f"bn1.{name}" for name in BN)]
for block in BLOCKS:
    RESNET_20 += [f"{block}.conv1.weight", *(f"{block}.bn1.{name}" for name in BN)]
    RESNET_20 += [f"{block}.conv2.weight", *(f"{block}.bn2.{name}" for name in BN)]
RESNET_20 += ["linear.weight", "linear.bias"]


class Block(nn.Module):
    """A basic block with option A."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.padding = planes // 4 if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.padding is not None:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding), "constant", 0)
        return functional.relu(out + x)


class Reference(nn.Module):
    """ResNet-20 as that repository lays it out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(functional.avg_pool2d(x, x.shape[3]).flatten(1))


@pytest.fixture(scope="module")
def resnet() -> SectionedNetwork:
    return lively("resnet-20")


def fresh(arch: str = "resnet-20", **options: str | int) -> SectionedNetwork:
    return build(arch, COLOUR, 10, source(7), ModelSettings(**options)).eval()


def test_every_weight_has_akamasters_name_in_its_order(resnet) -> None:
    assert list(to_akamaster(resnet)) == RESNET_20


def test_a_network_in_akamasters_way_gives_the_same_logits(resnet) -> None:
    reference, x = Reference().eval(), images(4, COLOUR)
    reference.load_state_dict(to_akamaster(resnet))
    torch.testing.assert_close(reference(x), resnet(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("file", ["state dict", "checkpoint of DataParallel"])
def test_weights_come_back_bit_for_bit(resnet, file: str) -> None:
    state = to_akamaster(resnet)
    if file != "state dict":
        named = OrderedDict((f"module.{name}", value) for name, value in state.items())
        state = {"state_dict": named, "best_prec1": 91.7}
    again = fresh()
    load_akamaster(again, state)
    own = resnet.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in again.state_dict().items())


def test_files_from_before_batches_were_counted_load_too(resnet) -> None:
    state = {name: value for name, value in to_akamaster(resnet).items() if "tracked" not in name}
    again = fresh()
    load_akamaster(again, state)
    assert torch.equal(again(images(1, COLOUR)), resnet(images(1, COLOUR)))


def without_a_name(state: dict) -> None:
    del state["layer2.1.conv1.weight"], state["bn1.bias"]


def with_another_name(state: dict) -> None:
    state["layer1.3.conv1.weight"] = torch.zeros(16, 16, 3, 3)


def with_another_shape(state: dict) -> None:
    state["linear.weight"] = torch.zeros(100, 64)


def with_a_number(state: dict) -> None:
    state["linear.bias"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_name, r"resnet-20: the checkpoint lacks 'bn1.bias' and 1 more"),
        (with_another_name, r"resnet-20: the checkpoint has, unexpectedly, 'layer1.3.conv1.weight'$"),
        (with_another_shape, r"'linear.weight' is of shape \[100, 64\], not of shape \[10, 64\]"),
        (with_a_number, r"'linear.bias' is no tensor, not of shape \[10\]"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(resnet, change, message: str) -> None:
    state, network = to_akamaster(resnet), fresh()
    change(state)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(LayerpruneError, match=message) as caught:
        load_akamaster(network, state)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_without_weights_is_said_so() -> None:
    with pytest.raises(LayerpruneError, match="'state_dict' holds no weights"):
        load_akamaster(fresh(), {"state_dict": 3})


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (fresh(shortcut="b"), "resnet-20: .*no names for option B"),
        (fresh("preact-resnet-20"), "preact-resnet-20: .*post-activation only"),
        (fresh("vgg16", width=2), "vgg16: .*post-activation only"),
    ],
    ids=["option b", "pre-activation", "vgg16"],
)
def test_networks_without_such_names_are_refused(network: SectionedNetwork, message: str) -> None:
    for act in (lambda: to_akamaster(network), lambda: load_akamaster(network, {})):
        with pytest.raises(LayerpruneError, match=message):
            act()


def test_a_pruned_network_is_refused() -> None:
    network = fresh()
    surgery.remove(network, [4])
    with pytest.raises(LayerpruneError, match=r"no names for a pruned network \(stage2\.1 went\)"):
        to_akamaster(network)
