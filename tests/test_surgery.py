"""Removal equals gating, folding changes nothing but the cost, and removed weights leave the optimizer."""

import copy

import pytest
import torch
from networks import every_keep_list, images, make, random_keep_lists, source
from torch import nn

from layerprune.core import surgery
from layerprune.core.measure import count_depth, count_macs, count_params, equivalence_gap
from layerprune.core.networks import storage
from layerprune.core.networks.sections import Section, SectionedNetwork, mask_gates
from layerprune.errors import LayerpruneError

TOLERANCE = 1e-5
CASES = [("lenet-300-100", keep) for keep in every_keep_list(2)]
CASES += [("lenet5", keep) for keep in every_keep_list(3)]
CASES += [("mlp-residual-6", keep) for keep in random_keep_lists(6, 30)]
CASES += [("mlp-residual-20", keep) for keep in random_keep_lists(20, 30)]
NAMES = [f"{arch}-{''.join(map(str, keep))}" for arch, keep in CASES]


@pytest.fixture(scope="module")
def originals() -> dict[str, SectionedNetwork]:
    return {arch: make(arch) for arch in {arch for arch, _ in CASES}}


def smaller(network: SectionedNetwork, keep: list[int]) -> SectionedNetwork:
    network = copy.deepcopy(network)
    surgery.remove_all_but(network, keep)
    surgery.fold(network)
    return network


@pytest.mark.parametrize(("arch", "keep"), CASES, ids=NAMES)
def test_removal_and_folding_equal_gates_fixed_at_the_keep_list(originals, tmp_path, arch, keep) -> None:
    left, x = smaller(originals[arch], keep), images(16)
    assert equivalence_gap(originals[arch], mask_gates(keep), left, x) < TOLERANCE
    storage.save(left, tmp_path / "arch.json", tmp_path / "weights.safetensors")
    again = storage.load(tmp_path / "arch.json", tmp_path / "weights.safetensors")
    assert equivalence_gap(originals[arch], mask_gates(keep), again, x) < TOLERANCE
    assert again.keep() == list(keep)


@pytest.mark.parametrize(("arch", "keep"), CASES, ids=NAMES)
def test_constant_gates_fold_into_the_branches(originals, arch, keep) -> None:
    network = copy.deepcopy(originals[arch])
    scales = (torch.rand(len(keep), generator=source(sum(keep))) + 0.2).tolist()
    surgery.remove_all_but(network, keep)
    for section, scale in zip(network.sections, scales, strict=True):
        if section.alive:
            surgery.scale_branch(section, scale)
    surgery.fold(network)
    gates = mask_gates([stays * scale for stays, scale in zip(keep, scales, strict=True)])
    assert equivalence_gap(originals[arch], gates, network, images(16)) < TOLERANCE


@pytest.mark.parametrize(("arch", "keep"), CASES, ids=NAMES)
def test_folding_raises_neither_macs_nor_depth(originals, arch, keep) -> None:
    network = copy.deepcopy(originals[arch])
    surgery.remove_all_but(network, keep)
    before = count_macs(network, network.input_shape), count_depth(network)
    surgery.fold(network)
    after = count_macs(network, network.input_shape), count_depth(network)
    assert after[0] <= before[0] and after[1] <= before[1]


def test_a_difference_would_be_seen(originals) -> None:
    """The certificate is no rubber stamp: another keep list gives a gap a thousand times the tolerance."""
    left = smaller(originals["lenet5"], [1, 0, 1])
    assert equivalence_gap(originals["lenet5"], mask_gates([1, 1, 1]), left, images(16)) > 1000 * TOLERANCE


@pytest.mark.parametrize("arch", ["lenet-300-100", "lenet5", "mlp-residual-6", "mlp-residual-20"])
def test_without_any_section_one_linear_map_is_left(originals, arch) -> None:
    left = smaller(originals[arch], [0] * len(originals[arch].sections))
    layers = [layer for layer in left.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(10, 784)]
    assert (count_depth(left), count_params(left)) == (1, 7850)
    x = images(2)
    with torch.no_grad():
        torch.testing.assert_close(left(x[:1] + x[1:]) + left(torch.zeros_like(x[:1])), left(x[:1]) + left(x[1:]))


@pytest.mark.parametrize("arch", ["lenet-300-100", "lenet5", "mlp-residual-6"])
def test_folding_leaves_a_whole_network_alone(originals, arch) -> None:
    whole = smaller(originals[arch], [1] * len(originals[arch].sections))
    assert storage.describe(whole) == storage.describe(originals[arch])


def test_folding_twice_is_folding_once(originals) -> None:
    once = smaller(originals["lenet5"], [0, 1, 0])
    twice = copy.deepcopy(once)
    surgery.fold(twice)
    assert storage.describe(once) == storage.describe(twice)


def test_a_section_behind_a_nonlinearity_is_not_multiplied_into_it() -> None:
    torch.manual_seed(0)
    first = Section("first", nn.Sequential(nn.Linear(6, 6)), nn.Linear(6, 6), nn.ReLU())
    second = Section("second", nn.Sequential(nn.ReLU(), nn.Linear(6, 6)), nn.Linear(6, 6))
    network = SectionedNetwork("own", (6,), nn.Identity(), [first, second], nn.Linear(6, 2))
    for keep in every_keep_list(2):
        gap = equivalence_gap(network, mask_gates(keep), smaller(network, keep), torch.randn(8, 6))
        assert gap < TOLERANCE, keep


def test_a_run_of_convolutions_before_a_section_that_needs_a_picture_stays_one() -> None:
    torch.manual_seed(0)
    # So many channels that one linear map would be cheaper.
    gone = Section("gone", nn.Sequential(nn.ReLU(), nn.Conv2d(64, 3, 3)), nn.Conv2d(64, 3, 3))
    stays = Section("stays", nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)))
    stem, head = nn.Conv2d(1, 64, 3), nn.Sequential(nn.Flatten(), nn.Linear(27, 2))
    network = SectionedNetwork("own", (1, 7, 7), stem, [gone, stays], head)
    for keep in every_keep_list(2):
        gap = equivalence_gap(network, mask_gates(keep), smaller(network, keep), torch.randn(4, 1, 7, 7))
        assert gap < TOLERANCE, keep


def test_removed_weights_and_their_momentum_leave_the_optimizer() -> None:
    network = make("mlp-residual-4")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(images(3)).sum().backward()
    optimizer.step()
    untouched = network.sections[0].branch[-1].weight
    momentum = optimizer.state[untouched]["momentum_buffer"].clone()
    surgery.remove(network, [1, 3], optimizer)
    left = set(map(id, network.parameters()))
    assert {id(each) for group in optimizer.param_groups for each in group["params"]} == left
    assert set(map(id, optimizer.state)) == left
    assert torch.equal(optimizer.state[untouched]["momentum_buffer"], momentum)


def test_removing_a_section_again_does_nothing() -> None:
    network = make("mlp-residual-4")
    surgery.remove(network, [2])
    surgery.remove(network, [2, 2])
    assert network.keep() == [1, 1, 0, 1]


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_keep_list_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(LayerpruneError, match=f"{length} entries.*4 sections"):
        surgery.remove_all_but(make("mlp-residual-4"), [1] * length)
