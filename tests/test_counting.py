"""MACs, parameters and depth against torch's own counter and against counts by hand."""

import copy

import pytest
import torch
from networks import every_keep_list, make, random_keep_lists
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerprune.core import surgery
from layerprune.core.measure import count_depth, count_macs, count_params, section_macs, section_params
from layerprune.core.networks.sections import SectionedNetwork

CASES = [("lenet-300-100", keep) for keep in every_keep_list(2)]
CASES += [("lenet5", keep) for keep in every_keep_list(3)]
CASES += [("mlp-residual-6", keep) for keep in random_keep_lists(6, 8)]
CASES += [("mlp-residual-20", keep) for keep in random_keep_lists(20, 8)]


def pruned(arch: str, keep: list[int]) -> SectionedNetwork:
    network = make(arch)
    surgery.remove_all_but(network, keep)
    return network


@pytest.mark.parametrize(("arch", "keep"), CASES)
def test_macs_are_half_of_torchs_flops(arch: str, keep: list[int]) -> None:
    network = pruned(arch, keep)
    for _ in ("unfolded", "folded"):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, *network.input_shape))
        assert 2 * count_macs(network, network.input_shape) == counter.get_total_flops()
        surgery.fold(network)


@pytest.mark.parametrize(("arch", "keep"), CASES)
def test_macs_and_parameters_are_additive_over_sections(arch: str, keep: list[int]) -> None:
    whole, left = make(arch), pruned(arch, keep)
    gone = [index for index, stays in enumerate(keep) if not stays]
    macs, params = section_macs(whole), section_params(whole)
    shape = whole.input_shape
    assert count_macs(whole, shape) - count_macs(left, shape) == sum(macs[index] for index in gone)
    assert count_params(whole) - count_params(left) == sum(params[index] for index in gone)
    assert [value > 0 for value in section_macs(left)] == [bool(stays) for stays in keep]


LENET_300_100 = 784 * 300 + 300 * 100 + 100 * 10
LENET_300_100_SHORTCUTS = 784 * 100 + 100 * 10
# conv 5x5 on 28x28, conv 5x5 on 12x12, and two linear layers; shortcuts: conv 7x7 on 14x14 and two linear.
LENET5 = 24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25 + 800 * 500 + 500 * 10
LENET5_SHORTCUTS = 8 * 8 * 50 * 49 + 800 * 500 + 500 * 10


@pytest.mark.parametrize(
    ("arch", "macs"),
    [
        ("lenet-300-100", LENET_300_100 + LENET_300_100_SHORTCUTS),
        ("lenet5", LENET5 + LENET5_SHORTCUTS),
        ("mlp-residual-20", 784 * 100 + 20 * 100 * 100 + 100 * 10),
    ],
)
def test_whole_networks_cost_what_a_count_by_hand_says(arch: str, macs: int) -> None:
    assert count_macs(make(arch), (1, 28, 28)) == macs


@pytest.mark.parametrize(
    ("arch", "params"),
    [
        # Weights, one bias a neuron of the branches, and one bias in the last shortcut.
        ("lenet-300-100", LENET_300_100 + LENET_300_100_SHORTCUTS + (300 + 100 + 10) + 10),
        ("lenet5", 20 * 25 + 50 * 20 * 25 + 405_000 + 50 * 49 + 405_000 + (20 + 50 + 500 + 10) + 10),
        ("mlp-residual-20", 78_500 + 20 * 10_100 + 1_010),
    ],
)
def test_whole_networks_have_as_many_parameters_as_a_count_by_hand_says(arch: str, params: int) -> None:
    assert count_params(make(arch)) == params


@pytest.mark.parametrize(
    ("arch", "keep", "depth"),
    [
        ("lenet-300-100", [1, 1], 3),
        ("lenet-300-100", [1, 0], 2),
        ("lenet-300-100", [0, 1], 2),
        ("lenet-300-100", [0, 0], 1),
        ("lenet5", [1, 1, 1], 4),
        ("lenet5", [1, 1, 0], 3),
        ("lenet5", [1, 0, 0], 3),
        ("lenet5", [0, 0, 0], 1),
        ("mlp-residual-20", [1] * 20, 22),
        ("mlp-residual-20", [1, 0] * 10, 12),
        ("mlp-residual-6", [0] * 6, 1),
    ],
)
def test_depth_counts_weight_layers_on_the_longest_path(arch: str, keep: list[int], depth: int) -> None:
    network = pruned(arch, keep)
    surgery.fold(network)
    assert count_depth(network) == depth


def test_folding_saves_what_a_count_by_hand_says() -> None:
    network = pruned("lenet-300-100", [1, 0])
    surgery.fold(network)
    assert count_macs(network, (1, 28, 28)) == 784 * 300 + 300 * 10 + 784 * 10


def test_counting_leaves_no_hook_and_no_changed_mode() -> None:
    network = make("lenet5").train()
    before = copy.deepcopy(network.state_dict())
    count_macs(network, (1, 28, 28))
    assert network.training and all(not module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_counting_leaves_every_part_in_its_own_mode() -> None:
    """A frozen batch norm in a network that trains, and one inside a new container: both stay frozen."""
    norm = nn.BatchNorm2d(3).eval()
    chain = nn.Sequential(norm, nn.Conv2d(3, 4, 3))
    before = [module.training for module in chain.modules()]
    count_macs(chain, (3, 8, 8))
    assert [module.training for module in chain.modules()] == before == [True, False, True]
