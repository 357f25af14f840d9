"""EASIER and TLC: what the rectifiers of a branch do, by loops over numbers and by networks changed by hand."""

import copy
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from networks import enliven, images, make, source
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.methods.parts.rectifiers import RECTIFIERS
from layerprune.core.methods.scores import easier, tlc
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.core.training.section_scores import metered_score
from layerprune.errors import SettingError

PICTURE = (3, 8, 8)
Batches = list[tuple[Tensor, Tensor]]


def data(*sizes: int, shape: tuple[int, int, int] = PICTURE) -> Batches:
    pictures, labels = images(sum(sizes), shape), torch.randint(0, 10, (sum(sizes),), generator=source(6))
    return list(zip(pictures.split(sizes), labels.split(sizes), strict=True))


def resnet(arch: str = "resnet-14") -> SectionedNetwork:
    """With BN layers such as training leaves behind, some of whose channels are mostly off."""
    return enliven(make(arch, shape=PICTURE))


def whole(batches: Batches) -> Tensor:
    return torch.cat([x for x, _ in batches])


def inputs_of(network: SectionedNetwork, x: Tensor) -> list[Tensor]:
    """What goes into every section."""
    found = [network.stem(x)]
    for section in network.chain:
        found.append(section(found[-1]))
    return found[:-1]


@pytest.mark.parametrize("method", [easier, tlc])
def test_a_score_is_finite_repeatable_and_leaves_the_network_as_it_was(method: ModuleType) -> None:
    network, batches = resnet(), data(5, 5, 3)
    before = copy.deepcopy(network.state_dict())
    first, again = method.score(network, batches), method.score(network, batches)
    assert first.shape == (6,) and first.isfinite().all() and torch.equal(first, again)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    assert all(each.grad is None for each in network.parameters())


# --- EASIER -----------------------------------------------------------------------------------------------------


def slow_entropy(given: np.ndarray) -> float:
    """Mean entropy of channels [B, C, ...]: shares of examples at each position, averaged over positions, as bits."""
    found = []
    for channel in range(given.shape[1]):
        places = given[:, channel].reshape(len(given), -1)
        on = float(np.mean([np.mean(places[:, place] >= 0) for place in range(places.shape[1])]))
        found.append(-sum(p * math.log2(p) for p in (on, 1 - on) if p > 0))
    return float(np.mean(found))


@pytest.mark.parametrize(("arch", "rectifiers"), [("resnet-14", [2]), ("preact-resnet-14", [1, 4])])
def test_easier_is_the_entropy_of_what_the_branchs_rectifiers_are_given(arch: str, rectifiers: list[int]) -> None:
    network, batches = resnet(arch), data(6, 6, 5)
    expected = []
    with torch.no_grad():
        for section, x in zip(network.chain, inputs_of(network, whole(batches)), strict=True):
            assert [place for place, layer in enumerate(section.branch) if isinstance(layer, nn.ReLU)] == rectifiers
            given = [section.branch[:place](x).numpy() for place in rectifiers]
            expected.append(np.mean([slow_entropy(each) for each in given]))
    assert easier.score(network, batches).tolist() == pytest.approx(expected, rel=1e-6)
    assert max(expected) - min(expected) > 0.01


def test_entropy_in_bits_by_hand() -> None:
    on = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    assert easier.entropy(on).tolist() == pytest.approx([0, 2 - 0.75 * math.log2(3), 1, 0])


def test_zero_counts_as_on_and_positions_are_averaged_within_a_channel() -> None:
    picture = torch.tensor([[[0.0, -1.0]], [[2.0, -3.0]]])  # two examples, one channel, two positions
    assert easier.share_on(picture).tolist() == [0.5]
    assert easier.share_on(picture.movedim(1, 2), channels_last=True).tolist() == [0.5]
    assert easier.share_on(torch.tensor([[1.0, -1.0], [1.0, 1.0]])).tolist() == [1.0, 0.5]


def test_a_branch_whose_rectifier_never_switches_scores_zero() -> None:
    network = resnet()
    for index, always in ((1, 1.0), (3, -1.0)):
        network.sections[index].branch[1].weight.data.zero_()
        network.sections[index].branch[1].bias.data.fill_(always)
    scores = easier.score(network, data(8))
    assert scores[[1, 3]].tolist() == [0, 0] and (scores[[0, 2, 4, 5]] > 0.1).all()


def token_network(*layers: nn.Module) -> SectionedNetwork:
    """A section on 5 tokens of 3 numbers each."""
    stem = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (5, 3)))
    return SectionedNetwork("own", (1, 5, 3), stem, [Section("only", nn.Sequential(*layers))], nn.Flatten()).eval()


def test_behind_linear_layers_channels_come_last() -> None:
    network = token_network(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3))
    batches = data(7, shape=(1, 5, 3))
    with torch.no_grad():
        given = network.sections[0].branch[0](network.stem(batches[0][0]))
    expected = slow_entropy(given.movedim(2, 1).numpy())
    assert easier.score(network, batches).item() == pytest.approx(expected, rel=1e-6)


def test_a_rectifier_counts_as_often_as_the_branch_calls_it_and_not_elsewhere() -> None:
    """One module twice in the branch and once behind the addition, as torchvision has it."""
    shared = nn.ReLU()
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(3, 3, 1), shared, nn.Conv2d(3, 3, 1), shared)
    network = SectionedNetwork("own", PICTURE, nn.Identity(), [Section("only", branch, None, shared)], nn.Flatten())
    batches = data(9)
    x = whole(batches)
    expected = np.mean([slow_entropy(branch[:place](x).detach().numpy()) for place in (1, 3)])
    assert easier.score(network, batches).item() == pytest.approx(expected, rel=1e-6)


def test_easier_costs_one_pass_and_needs_a_rectifier() -> None:
    network = make("mlp-residual-4", shape=(1, 4, 4)).eval()
    assert metered_score(easier.score, network, data(7, 4, shape=(1, 4, 4)), 0)[1] == 11 * 42_600
    with pytest.raises(SettingError, match="easier: cannot score own: section 'only' has no rectifier"):
        easier.score(token_network(nn.Linear(3, 3)), data(2, shape=(1, 5, 3)))
    assert nn.Tanh not in RECTIFIERS


# --- TLC --------------------------------------------------------------------------------------------------------


def collapsed_by_hand(section: Section) -> None:
    """Gammas and betas of channels with beta < 0 at 0, and no rectifier behind the normalisation."""
    layers = list(section.branch)
    for place, layer in enumerate(layers[:-1]):
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[place + 1], nn.ReLU):
            off = layer.bias.data < 0
            layer.weight.data[off] = layer.bias.data[off] = 0
            section.branch[place + 1] = nn.Identity()


def summed_loss(network: SectionedNetwork, batches: Batches) -> float:
    with torch.no_grad():
        return sum(functional.cross_entropy(network(x), y, reduction="sum").item() for x, y in batches)


@pytest.mark.parametrize("arch", ["resnet-14", "preact-resnet-14"])
def test_tlc_is_the_rise_of_the_loss_of_a_network_collapsed_by_hand(arch: str) -> None:
    network, batches = resnet(arch), data(8, 8, 5)
    expected = []
    for index in range(len(network.sections)):
        other = copy.deepcopy(network)
        collapsed_by_hand(other.sections[index])
        expected.append(summed_loss(other, batches) - summed_loss(network, batches))
    assert tlc.score(network, batches).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert max(map(abs, expected)) > 0.1 and len(set(expected)) == 6


def test_channels_with_beta_below_zero_fall_silent_and_the_others_pass_unrectified() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.bias.data = torch.tensor([-0.1, 0.0, 0.2])
    branch, x = nn.Sequential(norm, nn.ReLU()), images(2, PICTURE)
    with torch.no_grad(), tlc.collapsed(branch) as met:
        out = branch(x)
    assert len(met) == 1
    assert (out[:, 0] == 0).all() and torch.equal(out[:, 1:], norm(x)[:, 1:]) and (out < 0).any()
    assert torch.equal(branch(x), norm(x).relu())


def test_a_branch_whose_channels_are_always_on_collapses_for_nothing() -> None:
    network = resnet()
    network.sections[2].branch[1].bias.data.fill_(1000.0)
    scores = tlc.score(network, data(8))
    assert scores[2].item() == 0 and scores.abs().max() > 0.01


def test_a_rectifier_elsewhere_stays() -> None:
    """Behind another layer, and behind the addition although it is the same module."""
    shared = nn.ReLU()
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), shared, nn.Conv2d(3, 3, 1), shared)
    network = SectionedNetwork("own", PICTURE, nn.Identity(), [Section("only", branch, None, shared)], nn.Flatten())
    network.eval()
    branch[1].bias.data.fill_(-1e-9)
    with torch.no_grad(), tlc.collapsed(branch):
        out = network(data(4)[0][0])
    expected = branch[3](torch.zeros(4, *PICTURE)).relu() + data(4)[0][0]
    assert torch.allclose(out, expected.relu().flatten(1), atol=1e-6)


def test_tlc_costs_a_pass_for_each_section_and_one_more_and_looks_at_validation_images() -> None:
    network = resnet("resnet-8")
    with torch.no_grad():
        macs = metered_score(easier.score, network, data(11), 0)[1]
    assert metered_score(tlc.score, network, data(11), 0)[1] == 4 * macs
    assert tlc.LOOKS_AT == "validation" and tlc.REQUIRES == "batch-norm"


def test_tlc_needs_a_rectifier_behind_a_normalisation() -> None:
    network = make("mlp-residual-4", shape=(1, 4, 4)).eval()
    with pytest.raises(SettingError, match="tlc: cannot score mlp-residual-4: section 'section00' has no rectifier"):
        tlc.score(network, data(2, shape=(1, 4, 4)))
