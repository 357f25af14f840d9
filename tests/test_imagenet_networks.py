"""ImageNet ResNets: torchvision's to the last parameter, name, MAC and logit; pre-activation; removal and saving."""

import copy

import pytest
import torch
import torchvision
from networks import enliven, images, source

from layerprune.core import surgery
from layerprune.core.measure import count_depth, count_macs, count_params, section_macs, section_params
from layerprune.core.networks import storage
from layerprune.core.networks.build import build
from layerprune.core.networks.pretrained import load_torchvision, to_torchvision
from layerprune.core.networks.sections import SectionedNetwork, mask_gates
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError

PICTURE, SMALL = (3, 224, 224), (3, 64, 64)
DEPTHS = (18, 34, 50, 101)
FAMILIES = ("imagenet-resnet", "imagenet-preact-resnet")
PUBLISHED = {18: 1.814e9, 34: 3.664e9, 50: 4.089e9, 101: 7.801e9}
"""Multiply-adds that torchvision states (`_ops` of its weights), to three digits."""


def whole(
    depth: int,
    shape: tuple[int, int, int] = PICTURE,
    classes: int = 1000,
    family: str = FAMILIES[0],
    **options: object,
) -> SectionedNetwork:
    return build(f"{family}-{depth}", shape, classes, source(0), ModelSettings(**options)).eval()


def torchvisions(depth: int, classes: int = 1000) -> torch.nn.Module:
    return getattr(torchvision.models, f"resnet{depth}")(num_classes=classes).eval()


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameters_names_shapes_and_depth_are_torchvisions(depth: int) -> None:
    ours, theirs = whole(depth), torchvisions(depth)
    named = to_torchvision(ours)
    assert {name: value.shape for name, value in named.items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert list(named) == list(theirs.state_dict())
    assert count_params(ours) == sum(parameter.numel() for parameter in theirs.parameters())
    assert count_depth(ours) == depth
    assert count_macs(ours, PICTURE) == pytest.approx(PUBLISHED[depth], rel=5e-4)


def test_resnet_50_costs_what_the_literature_says() -> None:
    network = whole(50)
    assert count_params(network) == 25_557_032
    assert round(count_macs(network, PICTURE) / 1e9, 4) == 4.0892
    macs, params = section_macs(network), section_params(network)
    first = [0, 3, 7, 13]
    plain = [place for place in range(16) if place not in first]
    assert {round(macs[place] / 1e6, 1) for place in plain} == {218.4}
    assert [round(macs[place] / 1e6, 1) for place in first] == [179.8, 269.7, 269.7, 269.7]
    assert [params[place] for place in (1, 4, 8, 14)] == [70_400, 280_064, 1_117_184, 4_462_592]


@pytest.mark.parametrize("depth", [18, 50])
def test_logits_are_torchvisions(depth: int) -> None:
    ours, theirs, x = enliven(whole(depth, SMALL, 7)), torchvisions(depth, 7), images(2, SMALL)
    theirs.load_state_dict(to_torchvision(ours))
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wrapped", [False, True], ids=["weights", "checkpoint of the reference script"])
def test_torchvisions_weights_load(wrapped: bool) -> None:
    theirs, ours, x = torchvisions(18, 7), whole(18, SMALL, 7), images(2, SMALL)
    state = theirs.state_dict()
    load_torchvision(ours, {"model": state, "epoch": 89} if wrapped else state)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_weights_of_another_number_of_classes_are_named_and_change_nothing() -> None:
    ours = whole(18, SMALL, 7)
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(LayerpruneError, match=r"'fc.weight' is of shape \[1000, 512\], not of shape \[7, 512\]"):
        load_torchvision(ours, torchvisions(18).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("arch", ["resnet-8", "vgg16", "lenet5"])
def test_networks_that_torchvision_does_not_have_are_refused(arch: str) -> None:
    shape = (1, 28, 28) if arch == "lenet5" else (3, 32, 32)
    network = build(arch, shape, 10, source(0), ModelSettings(**({"width": 2} if arch == "vgg16" else {})))
    with pytest.raises(LayerpruneError, match=f"{arch}: torchvision has names for ImageNet ResNets only"):
        to_torchvision(network)


@pytest.mark.parametrize(
    "arch", ["imagenet-resnet-20", "imagenet-resnet-x", "imagenet-resnet", "imagenet-preact-resnet-8"]
)
def test_a_depth_that_was_not_published_is_refused(arch: str) -> None:
    with pytest.raises(LayerpruneError, match=r"the published depths are 18, 34, 50, 101|unknown architecture"):
        build(arch, PICTURE, 10, source(0))


@pytest.mark.parametrize(("depth", "removable"), [(18, 5), (34, 13), (50, 12), (101, 29)])
def test_only_sections_with_an_identity_may_go_where_shapes_are_preserved(depth: int, removable: int) -> None:
    assert len(whole(depth).sections) == {18: 8, 34: 16, 50: 16, 101: 33}[depth]
    assert len(whole(depth, removable="shape-preserving").sections) == removable


@pytest.mark.parametrize("depth", DEPTHS)
def test_pre_activation_costs_as_much_and_no_branch_ends_in_a_norm(depth: int) -> None:
    network, plain = whole(depth, family="imagenet-preact-resnet"), whole(depth)
    assert section_macs(network) == section_macs(plain) and count_macs(network, PICTURE) == count_macs(plain, PICTURE)
    assert count_depth(network) == depth
    assert all(isinstance(section.branch[-1], torch.nn.Conv2d) for section in network.chain)


def test_a_branch_of_pre_activation_fades_with_its_weights() -> None:
    """What epsilon-ResNet relies on: responses shrink in proportion, down to none."""
    section, x = whole(50, SMALL, 7, family="imagenet-preact-resnet", width=4).train().chain[2], images(4, (16, 16, 16))
    before = section.branch(x)
    with torch.no_grad():
        section.branch[-1].weight.mul_(1e-3)
    torch.testing.assert_close(section.branch(x), 1e-3 * before)


@pytest.mark.parametrize(("family", "depth"), [(each, depth) for each in FAMILIES for depth in (18, 50)])
@pytest.mark.parametrize("gone", [[1], [0, 2, 3], "all"])
def test_a_removed_section_computes_what_a_closed_gate_does(family: str, depth: int, gone: list[int] | str) -> None:
    network, x = enliven(whole(depth, SMALL, 7, family, width=8)), images(2, SMALL)
    places = list(range(len(network.sections))) if gone == "all" else gone
    keep = [int(place not in places) for place in range(len(network.sections))]
    closed = network(x, mask_gates(keep))
    surgery.remove(network, places)
    torch.testing.assert_close(network(x), closed, atol=1e-4, rtol=1e-4)
    surgery.fold(network)
    torch.testing.assert_close(network(x), closed, atol=1e-4, rtol=1e-4)


def test_a_pruned_network_comes_back_from_disk(tmp_path) -> None:
    network, x = enliven(whole(50, SMALL, 7, width=4)), images(2, SMALL)
    surgery.remove(network, [1, 3, 15])
    storage.save(network, tmp_path / "arch.json", tmp_path / "weights.safetensors")
    again = storage.load(tmp_path / "arch.json", tmp_path / "weights.safetensors").eval()
    assert torch.equal(again(x), network(x)) and count_macs(again, SMALL) == count_macs(network, SMALL)
