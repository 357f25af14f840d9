"""Linear maps that removals made neighbours are multiplied out: exactly, and only where it pays."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import images, make, random_keep_lists, source
from test_cifar_networks import COLOUR, lively
from torch import nn

from layerprune.core import surgery
from layerprune.core.folding.linear_maps import shorten
from layerprune.core.measure import count_depth, count_macs, count_params, equivalence_gap
from layerprune.core.networks import storage
from layerprune.core.networks.build import build
from layerprune.core.networks.layers import describe
from layerprune.core.networks.sections import Section, SectionedNetwork, mask_gates
from layerprune.core.settings import ModelSettings


def folded(network: SectionedNetwork, keep: list[int]) -> SectionedNetwork:
    network = copy.deepcopy(network)
    surgery.remove_all_but(network, keep)
    surgery.fold(network)
    return network


def costs(network: SectionedNetwork) -> tuple[int, int, int]:
    return count_macs(network, network.input_shape), count_params(network), count_depth(network)


def layers(spec: dict[str, Any] | None) -> str:
    """A described module in a few words: 'conv5 1-20' is a 5x5 convolution of 1 to 20 channels."""
    if spec is None:
        return "-"
    match spec["type"]:
        case "chain":
            return ", ".join(map(layers, spec["layers"]))
        case "linear":
            return f"linear {spec['in']}-{spec['out']}"
        case "conv":
            stride = f"/{spec['stride'][0]}" if spec["stride"][0] > 1 else ""
            return f"conv{spec['kernel'][0]}{stride} {spec['in']}-{spec['out']}"
        case "mean-pool":
            return f"mean{spec['kernel']}"
    return spec["type"]


def what_is_left(network: SectionedNetwork) -> list[str]:
    """The layers of stem, sections and head; a section as 'branch + shortcut'; what does nothing is left out."""
    told = storage.describe(network)
    sections = [f"{layers(spec['branch'])} + {layers(spec['shortcut'])}" for spec in told["sections"]]
    parts = [layers(told["stem"]), *sections, layers(told["head"])]
    return [part for part in parts if part not in ("identity", "- + identity")]


# --- branches of every form -----------------------------------------------------------------------------------

FORMS: dict[str, Callable[..., nn.Module]] = {
    "bare": lambda layer: layer,
    "chain": lambda layer: nn.Sequential(nn.ReLU(), layer),
    "chain of chains": lambda layer: nn.Sequential(nn.Sequential(nn.ReLU(), layer)),
    "ends in an identity": lambda layer: nn.Sequential(nn.ReLU(), layer, nn.Identity()),
}


def of_vectors(form: Callable[..., nn.Module]) -> SectionedNetwork:
    stem = nn.Sequential(nn.Flatten(), nn.Linear(36, 12))
    widths = [(12, 12, nn.Identity()), (12, 6, nn.Linear(12, 6)), (6, 6, nn.Linear(6, 6)), (6, 6, None)]
    sections = [Section(f"s{at}", form(nn.Linear(*to)), way) for at, (*to, way) in enumerate(widths)]
    return SectionedNetwork("vectors", (1, 6, 6), stem, sections, nn.Linear(6, 10))


def of_pictures(form: Callable[..., nn.Module]) -> SectionedNetwork:
    def convolution(before: int, behind: int) -> nn.Module:
        return form(nn.Conv2d(before, behind, 3, padding=1))

    shortcuts = [nn.Identity(), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 1), None]
    widths = [(6, 6), (6, 4), (4, 4), (4, 4)]
    pairs = enumerate(zip(widths, shortcuts, strict=True))
    sections = [Section(f"s{at}", convolution(*to), way) for at, (to, way) in pairs]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return SectionedNetwork("pictures", (1, 6, 6), nn.Conv2d(1, 6, 3, padding=1), sections, head)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make_it", [of_vectors, of_pictures])
def test_a_branch_may_be_a_layer_or_a_chain_of_any_form(make_it: Callable, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = make_it(FORMS[form]).eval()
    x, pays = torch.randn(5, 1, 6, 6, generator=source(1)), 0
    for keep in itertools.product((0, 1), repeat=4):
        left = folded(network, list(keep))
        with torch.no_grad():
            torch.testing.assert_close(left(x), network(x, mask_gates(list(keep))), atol=1e-5, rtol=1e-4)
        whole = copy.deepcopy(network)
        surgery.remove_all_but(whole, list(keep))
        pays += costs(left)[0] < costs(whole)[0]
        storage.save(left, tmp_path / "arch.json", tmp_path / "weights.safetensors")
        torch.testing.assert_close(storage.load(tmp_path / "arch.json", tmp_path / "weights.safetensors")(x), left(x))
    assert pays > 4


# --- vectors --------------------------------------------------------------------------------------------------

CONV1 = "conv5 1-20, max-pool, relu, conv5 20-50 + mean2, conv7 1-50"
CONV2 = "max-pool, relu, flatten, linear 800-500 + mean2, flatten, linear 800-500"
FC1 = "relu, linear 500-10 + linear 500-10"
FOLDED = {
    ("lenet-300-100", "00"): ["flatten, linear 784-10"],
    ("lenet-300-100", "01"): ["flatten", "- + linear 784-100", "relu, linear 100-10 + linear 100-10"],
    ("lenet-300-100", "10"): ["flatten", "linear 784-300, relu, linear 300-10 + flatten, linear 784-10"],
    ("lenet5", "000"): ["flatten, linear 784-10"],
    ("lenet5", "001"): ["flatten, linear 784-500", FC1],
    ("lenet5", "010"): ["- + mean2, conv7 1-50", "max-pool, relu, flatten, linear 800-10 + flatten, linear 3200-10"],
    ("lenet5", "011"): ["- + mean2, conv7 1-50", CONV2, FC1],
    ("lenet5", "100"): [CONV1, "- + flatten, linear 3200-10"],
    ("lenet5", "101"): [CONV1, "- + mean2, flatten, linear 800-500", FC1],
    ("lenet5", "110"): [CONV1, "max-pool, relu, flatten, linear 800-10 + flatten, linear 3200-10"],
    ("lenet5", "111"): [CONV1, CONV2, FC1],
    ("mlp-residual-3", "000"): ["flatten, linear 784-10"],
    ("mlp-residual-3", "010"): ["flatten, linear 784-100", "relu, linear 100-100 + identity", "linear 100-10"],
}


@pytest.mark.parametrize(("arch", "keep"), FOLDED, ids=["-".join(case) for case in FOLDED])
def test_networks_of_vectors_fold_to_these_layers(arch: str, keep: str) -> None:
    assert what_is_left(folded(make(arch), list(map(int, keep)))) == FOLDED[arch, keep]


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["resnet-20", "preact-resnet-20"])
@pytest.mark.parametrize("keep", list(random_keep_lists(9, 4)), ids=str)
def test_a_resnet_has_nothing_to_fold(arch: str, keep: list[int]) -> None:
    options = [ModelSettings(), ModelSettings(shortcut="b")] if arch == "resnet-20" else [ModelSettings()]
    for option in options:
        network = build(arch, COLOUR, 10, torch.Generator().manual_seed(0), option)
        surgery.remove_all_but(network, keep)
        before = storage.describe(network)
        surgery.fold(network)
        assert storage.describe(network) == before


@pytest.fixture(scope="module")
def vgg16() -> SectionedNetwork:
    return lively("vgg16", width=16)


KEEPS = [*random_keep_lists(13, 16), [0, 1] * 6 + [0], [1, 0] * 6 + [1], [1] * 12 + [0], [0] * 12 + [1]]


@pytest.mark.parametrize("keep", KEEPS, ids=["".join(map(str, keep)) for keep in KEEPS])
def test_folding_vgg16_changes_its_cost_and_not_its_function(vgg16, keep: list[int]) -> None:
    removed = copy.deepcopy(vgg16)
    surgery.remove_all_but(removed, keep)
    left = folded(vgg16, keep)
    assert equivalence_gap(vgg16, mask_gates(keep), left, images(4, COLOUR)) < 1e-5
    before, after = costs(removed), costs(left)
    assert after[0] <= before[0] and after[2] <= before[2]
    # One linear layer for the whole of a narrow network may have more of them than its convolutions.
    assert after[1] <= before[1] or not any(keep)
    assert what_is_left(folded(left, keep)) == what_is_left(left)


def test_a_whole_vgg16_is_left_alone(vgg16) -> None:
    assert storage.describe(folded(vgg16, [1] * 13)) == storage.describe(vgg16)


def test_vgg16_without_any_section_is_a_linear_classifier(vgg16) -> None:
    left = folded(vgg16, [0] * 13)
    assert what_is_left(left) == ["flatten, linear 3072-10"]
    assert costs(left) == (30_720, 30_730, 1)


def test_the_stem_of_vgg16_takes_in_the_pool_and_the_convolution_behind_it() -> None:
    network = lively("vgg16")
    left = folded(network, [0, 0] + [1] * 11)
    # Three channels in and 128 out, at a quarter of 32x32 pixels; the means of 2x2 sums over 3x3 see 4x4 pixels.
    assert what_is_left(left)[0] == "conv4/2 3-128"
    assert count_macs(left.stem, COLOUR) == 16 * 3 * 128 * 16 * 16
    assert equivalence_gap(network, mask_gates([0, 0] + [1] * 11), left, images(2, COLOUR)) < 1e-5


def test_mean_pools_become_one_that_comes_before_the_channels_grow(vgg16) -> None:
    left = folded(vgg16, [1] + [0] * 12)
    assert what_is_left(left)[-1] == "- + mean32, flatten, linear 16-10"


def test_the_last_section_folds_into_the_convolution_before_it(vgg16) -> None:
    left = folded(vgg16, [1] * 12 + [0])
    assert what_is_left(left)[-1] == "relu, flatten, linear 512-10 + mean2, flatten, linear 128-10"


def test_a_fold_that_would_add_parameters_is_left(vgg16) -> None:
    """conv2 could take in the pool behind it as a convolution of 4x4, with fewer MACs and more weights."""
    left = folded(vgg16, [1, 0] + [1] * 11)
    assert what_is_left(left)[1:3] == ["relu, conv3 16-16, batch-norm + identity", "- + mean2, conv1 16-32"]


def test_a_pool_alone_is_not_done_twice_instead_of_once(vgg16) -> None:
    left = folded(vgg16, [1] * 9 + [0] + [1] * 3)
    assert what_is_left(left)[9:11] == ["relu, conv3 128-128, batch-norm + identity", "- + mean2"]


def test_folding_a_network_in_training_mode_uses_running_statistics(vgg16) -> None:
    keep = [0, 0] + [1] * 10 + [0]
    training = copy.deepcopy(vgg16).train()
    left = folded(training, keep)
    assert left.training and all(module.training for module in left.modules())
    assert equivalence_gap(vgg16, mask_gates(keep), left.eval(), images(4, COLOUR)) < 1e-5
    statistics = zip(training.buffers(), vgg16.buffers(), strict=True)
    assert all(torch.equal(after, before) for after, before in statistics)


# --- networks of one's own -----------------------------------------------------------------------------------


def narrowing(activation: nn.Module | None = None) -> SectionedNetwork:
    """A section of 8 channels before one of 2, with biases everywhere, and a last one that needs a picture."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.bias.data.normal_()
    wide = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), norm)
    narrow = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    sections = [
        Section("wide", wide, nn.Conv2d(8, 8, 1), activation),
        Section("narrow", narrow, nn.Conv2d(8, 2, 1)),
        Section("last", nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 2, 1)), nn.AvgPool2d(2)),
    ]
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
    return SectionedNetwork("own", (1, 6, 6), nn.Conv2d(1, 8, 1), sections, head).eval()


def test_a_narrower_convolution_folds_into_branch_and_shortcut_before_it() -> None:
    network = narrowing()
    left = folded(network, [1, 0, 1])
    assert what_is_left(left)[1] == "relu, conv3 8-2 + conv1 8-2"
    assert equivalence_gap(network, mask_gates([1, 0, 1]), left, images(8, (1, 6, 6))) < 1e-5
    assert count_macs(left.chain[0], (8, 6, 6)) == 36 * (9 * 8 * 2 + 8 * 2)


def test_the_folded_constant_counts_once_whatever_the_gate() -> None:
    network = narrowing()
    left, x = folded(network, [1, 0, 1]), images(8, (1, 6, 6))
    for gate in (0.0, 0.3, 1.0):
        gates = mask_gates([gate, 0, 1])
        torch.testing.assert_close(left(x, gates), network(x, gates))


def test_a_map_is_not_doubled_where_that_adds_parameters() -> None:
    """The shortcut's 1x1 convolution would be cheaper behind the pool; the branch would need 64 channels of its own."""
    stays = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    gone = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 64, 8, 8))
    sections = [
        Section("stays", stays, nn.Conv2d(4, 4, 1)),
        Section("gone", gone, nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(4, 64, 1))),
    ]
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    left = folded(SectionedNetwork("own", (4, 16, 16), nn.Identity(), sections, head), [1, 0])
    assert what_is_left(left)[:2] == ["relu, conv3 4-4, batch-norm + conv1 4-4", "- + mean8, conv1 4-64"]


@pytest.mark.parametrize("keep", [[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]], ids=str)
def test_nothing_is_folded_through_a_relu(keep: list[int]) -> None:
    network = narrowing(nn.ReLU())
    left = folded(network, keep)
    assert equivalence_gap(network, mask_gates(keep), left, images(8, (1, 6, 6))) < 1e-5
    assert any("conv1 8-2" in part for part in what_is_left(left))


def lively_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for values in (norm.weight.data, norm.running_var):
        values.uniform_(0.5, 2)
    for values in (norm.bias.data, norm.running_mean):
        values.normal_()
    return norm


# Layers, their input's shape, and what is left of them: None where all stays.
CHAINS = {
    "1x1 behind 1x1": ([nn.Conv2d(2, 6, 1), nn.Conv2d(6, 3, 1, bias=False)], (2, 5, 5), "conv1 2-3"),
    "a bottleneck": ([nn.Conv2d(6, 1, 1), nn.Conv2d(1, 6, 1)], (6, 5, 5), None),
    "norm behind 3x3": ([nn.Conv2d(2, 4, 3, padding=1), lively_norm(4)], (2, 5, 5), "conv3 2-4"),
    "norm before 1x1": ([lively_norm(3), nn.Conv2d(3, 4, 1)], (3, 5, 5), "conv1 3-4"),
    "norm between groups": ([nn.Conv2d(4, 6, 3, groups=2), lively_norm(6)], (4, 5, 5), "conv3 4-6"),
    "norm before padding": ([lively_norm(3), nn.Conv2d(3, 4, 3, padding=1)], (3, 5, 5), None),
    "padding behind a bias": ([nn.Conv2d(3, 9, 1), nn.Conv2d(9, 3, 3, padding=1)], (3, 5, 5), None),
    "1x1 behind padding": ([nn.Conv2d(2, 9, 3, padding=1), nn.Conv2d(9, 2, 1)], (2, 5, 5), "conv3 2-2"),
    "strides": ([nn.Conv2d(2, 9, 2, 2), nn.Conv2d(9, 2, 2, 3)], (2, 17, 16), "conv4/6 2-2"),
    "pools of an odd size": ([nn.AvgPool2d(2), nn.AvgPool2d(3)], (2, 17, 13), "mean6"),
    "pool behind 1x1": ([nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)], (3, 7, 7), "mean2, conv1 3-4"),
    "pool behind 3x3": ([nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2)], (3, 7, 7), None),
    "a vector": (
        [nn.Conv2d(3, 4, 1), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 5)],
        (3, 4, 4),
        "mean4, flatten, linear 3-5",
    ),
    "a vector of more pixels": (
        [nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 2)],
        (2, 4, 4),
        "flatten, linear 32-2",
    ),
    "dilation": ([nn.Conv2d(2, 9, 1), nn.Conv2d(9, 2, 2, dilation=2)], (2, 5, 5), None),
    "other borders": (
        [nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Conv2d(2, 2, 1)],
        (2, 5, 5),
        None,
    ),
}


@pytest.mark.parametrize(("given", "shape", "expected"), CHAINS.values(), ids=CHAINS)
def test_chains_become_these_and_do_the_same(given: list[nn.Module], shape: tuple, expected: str | None) -> None:
    chain, x = nn.Sequential(*given).eval(), images(3, shape)
    short = shorten(chain, shape)
    assert (layers(describe(short, "shortcut")) if short is not None else None) == expected
    if short is not None:
        torch.testing.assert_close(short(x), chain(x), atol=1e-5, rtol=1e-5)


def test_a_product_by_hand() -> None:
    first, second = nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        first.bias.fill_(5), second.weight.fill_(-2), second.bias.fill_(1)
    (product,) = shorten(nn.Sequential(first, second), (1, 3, 3))
    assert product.weight.tolist() == [[[[-2, -4], [-6, -8]]]] and product.bias.tolist() == [-9]
