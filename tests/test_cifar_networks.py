"""CIFAR networks: the published counts to the last number, surgery through BN, names of a well-known layout."""

import copy
import importlib

import pytest
import torch
from networks import enliven, images, random_keep_lists, source
from torch import nn

from layerprune.core import surgery
from layerprune.core.measure import count_depth, count_macs, count_params, equivalence_gap, section_macs, section_params
from layerprune.core.networks import known_archs, storage
from layerprune.core.networks.archs import resnet
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import SectionedNetwork, ZeroPadShortcut, mask_gates
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError, SettingError

COLOUR = (3, 32, 32)
# METHODS 1.1.
ORACLES = {
    20: (269_722, 40_551_040),
    32: (464_154, 68_862_592),
    44: (658_586, 97_174_144),
    56: (853_018, 125_485_696),
    110: (1_727_962, 252_887_680),
}


def lively(arch: str, **options: str | int) -> SectionedNetwork:
    """A network whose BN layers do not happen to be the identity, in evaluation mode."""
    return enliven(build(arch, COLOUR, 10, source(0), ModelSettings(**options)))


@pytest.mark.parametrize("depth", ORACLES)
def test_a_resnet_has_the_published_parameters_macs_and_depth(depth: int) -> None:
    network = build(f"resnet-{depth}", COLOUR, 10, source(0))
    assert (count_params(network), count_macs(network, COLOUR)) == ORACLES[depth]
    assert count_depth(network) == depth


def test_every_section_of_a_resnet_costs_what_the_literature_says() -> None:
    network = build("resnet-56", COLOUR, 10, source(0))
    macs, params = section_macs(network), section_params(network)
    assert [macs.count(4_718_592), macs.count(3_538_944)] == [25, 2]
    assert (macs[9], macs[18]) == (3_538_944, 3_538_944)
    assert (params[1], params[10], params[19]) == (4_672, 18_560, 73_984)


def test_option_b_costs_its_projections() -> None:
    network = resnet.build("resnet-56", COLOUR, 10, shortcut="b")
    assert count_macs(network, COLOUR) == ORACLES[56][1] + 262_144


def test_the_zero_pad_shortcut_by_hand() -> None:
    x = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4) + 1
    out = ZeroPadShortcut(4, 2)(x)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 0].abs().sum() == 0 and out[0, 3].abs().sum() == 0
    assert out[0, 1].tolist() == [[1, 3], [9, 11]] and out[0, 2].tolist() == [[17, 19], [25, 27]]


# Stem, then section by section BN, convolution, BN, convolution; the head's BN and linear layer.
PREACT_20 = 3 * 9 * 16 + 3 * (32 + 9 * 16 * 16 + 32 + 9 * 16 * 16)
PREACT_20 += (32 + 9 * 16 * 32 + 64 + 9 * 32 * 32) + 2 * (64 + 9 * 32 * 32 + 64 + 9 * 32 * 32)
PREACT_20 += (64 + 9 * 32 * 64 + 128 + 9 * 64 * 64) + 2 * (128 + 9 * 64 * 64 + 128 + 9 * 64 * 64)
PREACT_20 += 128 + 640 + 10


@pytest.mark.parametrize("depth", ORACLES)
def test_pre_activation_costs_what_post_activation_does(depth: int) -> None:
    network = build(f"preact-resnet-{depth}", COLOUR, 10, source(0))
    assert count_macs(network, COLOUR) == ORACLES[depth][1]
    assert count_depth(network) == depth
    # The stem's 32 numbers of BN have become the head's 128; two sections have BN of half the width: 32 and 64 less.
    assert count_params(network) == ORACLES[depth][0] - 32 + 128 - 32 - 64


def test_pre_activation_has_as_many_parameters_as_a_count_by_hand_says() -> None:
    assert count_params(build("preact-resnet-20", COLOUR, 10, source(0))) == PREACT_20


def test_branches_with_pre_activation_open_with_bn_and_end_in_weights() -> None:
    network = build("preact-resnet-20", COLOUR, 10, source(0))
    kinds = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 2
    assert all([type(layer) for layer in section.branch] == kinds for section in network.chain)
    assert isinstance(network.stem, nn.Conv2d)
    assert all(isinstance(section.activation, nn.Identity) for section in network.chain)


def test_the_shortcut_with_pre_activation_is_a_mean_between_zeros() -> None:
    x = torch.zeros(1, 16, 4, 4)
    x[0, 0, :2, :2] = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    out = build("preact-resnet-8", COLOUR, 10, source(0)).chain[1].shortcut(x)
    assert out.shape == (1, 32, 2, 2)
    assert out[0, 8, 0, 0] == 3 and out.abs().sum() == 3


def test_pre_activation_says_which_images_it_needs() -> None:
    with pytest.raises(LayerpruneError, match="preact-resnet-8: needs images of a size divisible by 4, not 30x32"):
        build("preact-resnet-8", (3, 30, 32), 10, source(0))


def test_a_width_is_what_every_stage_multiplies() -> None:
    network = build("preact-resnet-8", COLOUR, 10, source(0), ModelSettings(width=4))
    assert [section.branch[-1].out_channels for section in network.chain] == [4, 8, 16]


# (all branches contain BN, branches end in BN): the last section of vgg16 has none, which ends in its only weights.
NORMALISED = {
    "resnet": (True, True),
    "preact-resnet": (True, False),
    "vgg16": (False, True),
    "imagenet-resnet": (True, True),
    "imagenet-preact-resnet": (True, False),
}


@pytest.mark.parametrize("name", known_archs())
def test_every_architecture_says_where_it_normalises(name: str) -> None:
    module = importlib.import_module(f"layerprune.core.networks.archs.{name.replace('-', '_')}")
    said = module.BATCH_NORM, module.CLOSING_NORM
    assert said == NORMALISED.get(name, (False, False))


@pytest.mark.parametrize("arch", ["resnet-21", "resnet-2", "resnet-x", "resnet", "preact-resnet-21", "preact-resnet"])
def test_a_depth_that_is_none_is_refused(arch: str) -> None:
    with pytest.raises(LayerpruneError, match=r"6n \+ 2|unknown"):
        build(arch, COLOUR, 10, source(0))


def test_vgg16_has_its_thirteen_convolutions_and_as_many_sections() -> None:
    network = build("vgg16", COLOUR, 10, source(0))
    kernels = [layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels.count((3, 3)) == len(network.sections) == 13
    stem = 3 * 9 * 64 * 32 * 32
    assert stem + sum(section_macs(network)[:-1]) == 313_196_544  # METHODS 1.3: 313.2 M
    # conv2, conv4, conv6, conv7, conv9 and conv10 cost 37.75 M each, conv11 to conv13 9.44 M.
    assert [section_macs(network)[place] for place in (0, 2, 4, 5, 7, 8)] == [37_748_736] * 6
    assert section_macs(network)[9:12] == [9_437_184] * 3
    assert section_params(network)[9] == 512 * 512 * 9 + 2 * 512


def test_a_narrow_vgg16_has_as_many_channels_as_it_is_asked_for() -> None:
    network = build("vgg16", COLOUR, 10, source(0), ModelSettings(width=16))
    assert network.stem[0].out_channels == 16
    assert network(images(2, COLOUR)).shape == (2, 10)


def test_vgg16_says_which_images_it_needs() -> None:
    with pytest.raises(LayerpruneError, match="vgg16: needs 32x32 images, not 28x28"):
        build("vgg16", (3, 28, 28), 10, source(0))


CASES = [("resnet-20", keep) for keep in random_keep_lists(9, 12)]
CASES += [("preact-resnet-20", keep) for keep in random_keep_lists(9, 12)]
CASES += [("vgg16", keep) for keep in random_keep_lists(13, 12)]


@pytest.fixture(scope="module")
def originals() -> dict[str, SectionedNetwork]:
    narrow = lively("vgg16", width=8)
    return {"resnet-20": lively("resnet-20"), "preact-resnet-20": lively("preact-resnet-20"), "vgg16": narrow}


@pytest.mark.parametrize(("arch", "keep"), CASES, ids=[f"{arch}-{''.join(map(str, keep))}" for arch, keep in CASES])
def test_removal_equals_gating_through_batch_norm(originals, tmp_path, arch: str, keep: list[int]) -> None:
    left, x = copy.deepcopy(originals[arch]), images(8, COLOUR)
    surgery.remove_all_but(left, keep)
    surgery.fold(left)
    storage.save(left, tmp_path / "arch.json", tmp_path / "weights.safetensors")
    again = storage.load(tmp_path / "arch.json", tmp_path / "weights.safetensors").eval()
    assert equivalence_gap(originals[arch], mask_gates(keep), again, x) < 1e-5
    assert again.keep() == keep


@pytest.mark.parametrize("arch", ["resnet-20", "preact-resnet-20"])
def test_a_constant_gate_folds_into_the_last_layer_of_a_branch(originals, arch: str) -> None:
    scales = [0.3 + 0.2 * place for place in range(9)]
    scaled, x = copy.deepcopy(originals[arch]), images(8, COLOUR)
    for section, scale in zip(scaled.sections, scales, strict=True):
        surgery.scale_branch(section, scale)
    assert equivalence_gap(originals[arch], mask_gates(scales), scaled, x) < 1e-5


def test_a_stage_that_loses_every_branch_keeps_its_shortcuts(originals) -> None:
    left = copy.deepcopy(originals["resnet-20"])
    surgery.remove_all_but(left, [0] * 9)
    assert left(images(2, COLOUR)).shape == (2, 10)
    assert count_macs(left, COLOUR) == 3 * 9 * 16 * 1024 + 640
    assert count_depth(left) == 2


# --- what an architecture may be asked for ----------------------------------------------------------------------

SHAPE_PRESERVING = ModelSettings(removable="shape-preserving")


def test_shape_preserving_keeps_the_first_sections_of_later_stages() -> None:
    network = build("resnet-20", COLOUR, 10, source(0), SHAPE_PRESERVING)
    fixed = [section.name for section in network.chain if not section.removable]
    assert fixed == ["stage2.0", "stage3.0"]
    assert len(network.sections) == len(network.keep()) == len(section_macs(network)) == 7
    assert count_macs(network, COLOUR) == ORACLES[20][1] and count_depth(network) == 20


def test_gates_and_keep_lists_speak_of_removable_sections_alone() -> None:
    network, x = build("resnet-20", COLOUR, 10, source(0), SHAPE_PRESERVING).eval(), images(4, COLOUR)
    left = copy.deepcopy(network)
    surgery.remove_all_but(left, [0, 1, 0, 1, 0, 1, 0])
    assert [section.alive for section in left.chain] == [False, True, False, True, True, False, True, True, False]
    assert equivalence_gap(network, mask_gates([0, 1, 0, 1, 0, 1, 0]), left, x) < 1e-5


def test_a_fixed_section_is_still_fixed_when_it_was_saved(tmp_path) -> None:
    network = build("resnet-20", COLOUR, 10, source(0), SHAPE_PRESERVING)
    storage.save(network, tmp_path / "arch.json", tmp_path / "weights.safetensors")
    again = storage.load(tmp_path / "arch.json", tmp_path / "weights.safetensors")
    assert [section.removable for section in again.chain] == [section.removable for section in network.chain]


def test_an_option_that_an_architecture_does_not_have_is_refused() -> None:
    assert (
        build("resnet-20", COLOUR, 10, source(0), ModelSettings(shortcut="b")).chain[3].shortcut[0].out_channels == 32
    )
    with pytest.raises(SettingError, match=r"model\.shortcut: vgg16 has no such option"):
        build("vgg16", COLOUR, 10, source(0), ModelSettings(shortcut="b"))


def test_a_removed_section_of_a_resnet_costs_no_call() -> None:
    network = build("resnet-20", COLOUR, 10, source(0))
    surgery.remove(network, [1])
    assert network.chain[1].transparent
    with_projection = build("resnet-20", COLOUR, 10, source(0), ModelSettings(shortcut="b"))
    surgery.remove(with_projection, [3])
    assert isinstance(with_projection.chain[3].activation, nn.ReLU)
