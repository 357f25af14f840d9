"""Score methods that look at weights, slopes or positions: each criterion by another road, and keep lists by hand."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import images, make, source
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core import surgery
from layerprune.core.methods.base import keep_highest
from layerprune.core.methods.parts.first_layer import first_batch_norm, gate_position
from layerprune.core.methods.scores import (
    bn_scale,
    feature_taylor,
    gate_taylor,
    last_k,
    sr_init,
    taylor,
    uniform_thinning,
)
from layerprune.core.methods.scores.sr_init import reinitialised
from layerprune.core.networks.build import initialise
from layerprune.core.networks.sections import Section, SectionedNetwork
from layerprune.core.settings import TaylorSettings
from layerprune.errors import SettingError

PICTURE = (3, 8, 8)
METHODS = [bn_scale, feature_taylor, gate_taylor, last_k, sr_init, uniform_thinning]
Batches = list[tuple[Tensor, Tensor]]


def resnet(depth: int = 8) -> SectionedNetwork:
    """In evaluation mode, with gammas and statistics such as training leaves behind."""
    network, generator = make(f"resnet-{depth}", shape=PICTURE), source(3)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator))
                layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
                layer.num_batches_tracked.fill_(77)
    return network.eval()


def data(*sizes: int, shape: tuple[int, int, int] = PICTURE) -> Batches:
    """Batches of these sizes, cut from one row of random images."""
    pictures = images(sum(sizes), shape)
    labels = torch.randint(0, 10, (sum(sizes),), generator=source(6))
    return list(zip(pictures.split(sizes), labels.split(sizes), strict=True))


def snapshot(network: SectionedNetwork) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


def assert_untouched(network: SectionedNetwork, before: dict[str, Tensor]) -> None:
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__.rpartition(".")[2])
def test_a_score_is_finite_repeatable_and_leaves_the_network_as_it_was(method: Any) -> None:
    network, batches = resnet(), data(5, 5, 3)
    before = snapshot(network)
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append(method.score(network, batches))
    assert drawn[0].shape == (3,) and not drawn[0].requires_grad
    assert torch.isfinite(drawn[0]).all() and torch.equal(drawn[0], drawn[1])
    assert_untouched(network, before)


# --- gate Taylor and feature-map Taylor -----------------------------------------------------------------------


class ChannelGate(nn.Module):
    """A parameter at 1 for every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate.view(1, -1, *[1] * (x.dim() - 2))


def behind(network: SectionedNetwork, place: int, module: Any) -> list[nn.Module]:
    """Insert `module(channels)` behind the layer at `place` of every branch."""
    inserted = []
    for section in network.sections:
        layers = list(section.branch)
        weight = layers[place].weight
        inserted.append(module(len(weight)))
        section.branch = nn.Sequential(*layers[: place + 1], inserted[-1], *layers[place + 1 :])
    return inserted


@pytest.mark.parametrize(("arch", "place"), [("resnet-8", 1), ("mlp-residual-3", 1)])
def test_gate_taylor_is_the_squared_slope_of_an_explicit_gate(arch: str, place: int) -> None:
    network = resnet() if arch == "resnet-8" else make(arch, shape=PICTURE)
    batches = data(6, 6, 4)
    gated = copy.deepcopy(network)
    gates = behind(gated, place, ChannelGate)
    expected = torch.zeros(3)
    for x, y in batches:
        gated.zero_grad()
        functional.cross_entropy(gated(x), y).backward()
        expected += torch.stack([(each.gate * each.gate.grad).detach().square().mean() for each in gates])
    torch.testing.assert_close(gate_taylor.score(network, batches), expected, rtol=1e-4, atol=0)


def test_without_batch_normalisation_the_gate_stands_behind_the_first_weight_layer() -> None:
    network = make("lenet5").eval()
    gated = copy.deepcopy(network)
    gates = [ChannelGate(channels) for channels in (20, 500, 10)]
    for section, gate, place in zip(gated.sections, gates, (0, 3, 1), strict=True):
        section.branch.insert(place + 1, gate)
    ((x, y),) = batches = data(6, shape=(1, 28, 28))
    functional.cross_entropy(gated(x), y).backward()
    expected = torch.stack([each.gate.grad.square().mean() for each in gates])
    torch.testing.assert_close(gate_taylor.score(network, batches), expected, rtol=1e-4, atol=0)


def test_in_pre_activation_the_gate_stands_behind_the_second_normalisation() -> None:
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(5)
    branch = nn.Sequential(norms[0], nn.ReLU(), nn.Conv2d(3, 5, 1), norms[1], nn.ReLU(), nn.Conv2d(5, 3, 1))
    assert first_batch_norm(branch) is gate_position(branch) is norms[1]
    assert first_batch_norm(branch[:3]) is None and gate_position(branch[:3]) is branch[2]


class Watched(nn.Module):
    """Passes on what it gets and keeps it, with its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        x.retain_grad()
        return x


def feature_taylor_by_hand(network: SectionedNetwork, batches: Batches) -> list[float]:
    watched = copy.deepcopy(network)
    spies = behind(watched, 1, lambda channels: Watched())
    sums: list[Any] = [0] * len(spies)
    for x, y in batches:
        functional.cross_entropy(watched(x), y).backward()
        sums = [
            total + (spy.seen * spy.seen.grad).detach().abs().mean((0, 2, 3))
            for total, spy in zip(sums, spies, strict=True)
        ]
    return [float((total / total.square().sum().sqrt()).mean()) for total in sums]


def test_feature_taylor_is_the_normalised_mean_of_activation_times_slope() -> None:
    network, batches = resnet(), data(6, 6)
    expected = feature_taylor_by_hand(network, batches)
    assert feature_taylor.score(network, batches).tolist() == pytest.approx(expected, rel=1e-4)


def test_feature_taylor_of_two_filters_three_to_four_is_seven_tenths() -> None:
    """Both features feel the same slope, up to its sign, and they are 3x and 4x: (3/5 + 4/5) / 2."""
    branch, shortcut, head = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        branch.weight.copy_(torch.tensor([[3.0], [-4.0]]))
        head.weight.copy_(torch.tensor([[0.1, 0.1], [-0.1, -0.1]]))
    network = SectionedNetwork("own", (1, 1, 1), nn.Flatten(), [Section("one", branch, shortcut)], head)
    batches = [(torch.randn(5, 1, 1, 1, generator=source(0)), torch.arange(5) % 2)]
    assert feature_taylor.score(network, batches).tolist() == pytest.approx([0.7])


def test_feature_taylor_knows_no_scale_and_counts_every_example_once() -> None:
    network = resnet()
    once = feature_taylor.score(network, data(8, 8)).tolist()
    assert feature_taylor.score(network, data(8, 8) * 3).tolist() == pytest.approx(once, rel=1e-5)
    assert feature_taylor.score(network, data(7, 7, 2)).tolist() == pytest.approx(once, rel=1e-4)
    assert all(1 / channels <= each <= channels**-0.5 for channels, each in zip((16, 32, 64), once, strict=True))


def test_feature_taylor_keeps_its_scale_where_slopes_are_tiny() -> None:
    """The slopes' squares are below what float32 can hold."""
    network, batches = resnet(), data(8)
    expected = feature_taylor.score(network, batches).tolist()
    saved = functional.cross_entropy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "cross_entropy", lambda *told, **named: saved(*told, **named) * 1e-25)
        assert feature_taylor.score(network, batches).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", [feature_taylor, gate_taylor])
def test_a_branch_that_gives_nothing_scores_zero(method: Any) -> None:
    network = resnet()
    network.sections[1].branch[-1].weight.data.zero_()  # gamma of the last normalisation: no slope reaches the gate
    scores = method.score(network, data(5, 3)).tolist()
    assert scores[1] == 0 and min(scores[0], scores[2]) > 0


@pytest.mark.parametrize("method", [feature_taylor, gate_taylor])
def test_no_hook_outlives_an_exception(method: Any) -> None:
    network, before = resnet(), snapshot(resnet())
    with pytest.raises(RuntimeError):
        method.score(network, [*data(3), (torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))])
    assert_untouched(network, before)


# --- BN scale -------------------------------------------------------------------------------------------------


def test_bn_scale_is_the_mean_size_of_the_first_gammas() -> None:
    network = resnet()
    with torch.no_grad():
        for section, gamma in zip(network.sections, (0.5, -2.0, 0.0), strict=True):
            section.branch[1].weight.fill_(gamma)
            section.branch[4].weight.fill_(100.0)
        network.sections[2].branch[1].weight[0] = -6.4  # one of 64 channels
    assert bn_scale.score(network, []).tolist() == pytest.approx([0.5, 2.0, 0.1])


def test_bn_scale_refuses_a_branch_without_batch_normalisation() -> None:
    assert bn_scale.REQUIRES == "batch-norm"
    with pytest.raises(
        SettingError, match=r"^bn-scale: section 'section00' of mlp-residual-3 has no batch norm[^\n]*$"
    ):
        bn_scale.score(make("mlp-residual-3"), [])
    network = resnet()
    network.sections[1].branch[1], network.sections[1].branch[4] = nn.Identity(), nn.Identity()
    with pytest.raises(SettingError, match=r"section 'stage2\.0' of resnet-8 "):
        bn_scale.score(network, [])


# --- SR-init --------------------------------------------------------------------------------------------------


def accuracy(network: SectionedNetwork, batches: Batches) -> float:
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return float((network(x).argmax(1) == y).double().mean())


def with_fresh_branch(network: SectionedNetwork, index: int, generator: torch.Generator) -> SectionedNetwork:
    """A copy in which one branch is as models.build makes it."""
    other = copy.deepcopy(network)
    layers = [copy.deepcopy(layer) for layer in other.sections[index].branch]
    layers = [nn.BatchNorm2d(len(layer.weight)) if isinstance(layer, nn.BatchNorm2d) else layer for layer in layers]
    fresh = Section("fresh", nn.Sequential(*layers))
    initialise(nn.ModuleList([fresh]), generator)
    other.sections[index].branch = fresh.branch.eval()
    return other


def told_apart(network: SectionedNetwork) -> Batches:
    """Ragged batches of images that the network puts into many classes, nine in ten of them labelled as it says."""
    batches = data(40, 40, 20)
    with torch.no_grad():
        network.head[-1].bias.sub_(torch.cat([network(x) for x, _ in batches]).mean(0))
        return [(x, torch.where(torch.arange(len(x)) % 10 > 0, network(x).argmax(1), y)) for x, y in batches]


def test_sr_init_is_the_mean_drop_over_three_branches_as_the_network_was_initialised() -> None:
    network = resnet()
    batches = told_apart(network)
    assert sr_init.DRAWS == 3 and sr_init.LOOKS_AT == "validation"
    torch.manual_seed(11)
    scores = sr_init.score(network, batches).tolist()
    generator, whole, expected = source(11), accuracy(network, batches), []
    for index in range(len(network.sections)):
        copies = [accuracy(with_fresh_branch(network, index, generator), batches) for _ in range(3)]
        expected.append(whole - sum(copies) / 3)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert whole > 0.85 and max(scores) > 0.05 and len(set(scores)) > 1


def test_sr_init_draws_anew_for_every_section_and_follows_the_seed() -> None:
    network = resnet()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        for _ in range(2):
            with reinitialised(network.sections[0]):
                drawn.append(network.sections[0].branch[0].weight.clone())
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[4])


def test_the_whole_state_of_a_branch_is_fresh_and_nothing_else() -> None:
    network = resnet()
    before, trained = snapshot(network), network.sections[2].branch
    with reinitialised(network.sections[2]):
        within = network.state_dict()
        assert list(within) == list(before)
        for name, value in within.items():
            mine = name.startswith("chain.2.branch.")
            assert mine != torch.equal(value, before[name])
        for place in (1, 4):
            fresh = nn.BatchNorm2d(64).state_dict()
            state = network.sections[2].branch[place].state_dict()
            assert all(torch.equal(fresh[name], state[name]) for name in fresh)
        spread = network.sections[2].branch[3].weight.std().item()
        assert spread == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert network.sections[2].branch is trained
    assert_untouched(network, before)


def test_a_linear_branch_is_drawn_by_the_same_rule_and_its_bias_is_zero() -> None:
    network = make("lenet-300-100", shape=PICTURE)
    expected = with_fresh_branch(network, 1, source(2)).sections[1].branch.state_dict()
    torch.manual_seed(2)
    with reinitialised(network.sections[1]):
        state = network.sections[1].branch.state_dict()
    assert list(state) == list(expected) and all(torch.equal(state[name], expected[name]) for name in state)
    assert not any(value.any() for name, value in state.items() if name.endswith("bias"))


class Broken:
    """Batches that can be gone through whole a few times; then comes an exception in the midst of them."""

    def __init__(self, batches: Batches, times: int) -> None:
        self.batches, self.left = batches, times

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.left -= 1
        yield self.batches[0]
        if self.left < 0:
            raise KeyboardInterrupt
        yield from self.batches[1:]


@pytest.mark.parametrize("times", [0, 1, 5])
def test_sr_init_leaves_the_network_bit_equal_after_an_exception(times: int) -> None:
    network = resnet()
    before, branches = snapshot(network), [section.branch for section in network.sections]
    with pytest.raises(KeyboardInterrupt):
        sr_init.score(network, Broken(data(4, 4), times))
    assert all(section.branch is branch for section, branch in zip(network.sections, branches, strict=True))
    assert_untouched(network, before)


def test_a_section_that_the_head_does_not_see_drops_nothing() -> None:
    network = resnet()
    network.head[-1].weight.data.zero_()
    assert sr_init.score(network, data(8)).tolist() == [0, 0, 0]


# --- the last k of each stage, and uniform thinning -------------------------------------------------------------

LAST_K_OF_RESNET_20 = [
    "000 000 000",
    "100 000 000",
    "100 100 000",
    "100 100 100",
    "110 100 100",
    "110 110 100",
    "110 110 110",
    "111 110 110",
    "111 111 110",
    "111 111 111",
]
THINNED_RESNET_20 = [
    "000 000 000",
    "100 000 000",
    "100 100 000",
    "100 100 100",
    "101 100 100",
    "101 101 100",
    "101 101 101",
    "111 101 101",
    "111 111 101",
    "111 111 111",
]
# The first sections of stages 2 and 3 are fixed.
LAST_K_OF_FIXED = [
    "000 00 00",
    "100 00 00",
    "110 00 00",
    "110 10 00",
    "110 10 10",
    "111 10 10",
    "111 11 10",
    "111 11 11",
]
THINNED_FIXED = ["000 00 00", "100 00 00", "101 00 00", "101 01 00", "101 01 01", "111 01 01", "111 11 01", "111 11 11"]
LAST_K_OF_FIVE = ["00000", "10000", "11000", "11100", "11110", "11111"]
# 2 goes; of 1 and 3 that are equals 3; then 0, 4, 1: alone, 1 stands nearer to the middle than 4.
THINNED_FIVE = ["00000", "01000", "01001", "11001", "11011", "11111"]


def without_shape_changes(depth: int) -> SectionedNetwork:
    network = resnet(depth)
    network.fix(section for section in network.chain if not section.preserves_shape)
    return network


def kept(method: Any, network: SectionedNetwork, count: int) -> list[int]:
    return keep_highest(method.score(network, []).tolist(), count)


@pytest.mark.parametrize(
    ("method", "network", "lists"),
    [
        (last_k, resnet(20), LAST_K_OF_RESNET_20),
        (uniform_thinning, resnet(20), THINNED_RESNET_20),
        (last_k, without_shape_changes(20), LAST_K_OF_FIXED),
        (uniform_thinning, without_shape_changes(20), THINNED_FIXED),
        (last_k, make("mlp-residual-5"), LAST_K_OF_FIVE),
        (uniform_thinning, make("mlp-residual-5"), THINNED_FIVE),
    ],
)
def test_keep_lists_are_those_written_down_by_hand(method: Any, network: SectionedNetwork, lists: list[str]) -> None:
    assert len(lists) == len(network.sections) + 1
    for count, expected in enumerate(lists):
        assert "".join(map(str, kept(method, network, count))) == expected.replace(" ", "")


@pytest.mark.parametrize("method", [last_k, uniform_thinning])
@pytest.mark.parametrize("make_network", [resnet, without_shape_changes])
def test_removing_in_portions_ends_where_removing_at_once_does(method: Any, make_network: Any) -> None:
    network = make_network(20)
    alive = list(network.sections)
    while len(alive) > 1:
        expected = [
            section for section, stays in zip(alive, kept(method, network, len(alive) - 1), strict=True) if stays
        ]
        whole = make_network(20)
        at_once = kept(method, whole, len(alive) - 1)
        assert [section.name for section in expected] == [
            section.name for section, stays in zip(whole.sections, at_once, strict=True) if stays
        ]
        for section in alive:
            if section not in expected:
                section.remove_branch()
        network.fix(section for section in network.chain if not section.alive)
        alive = expected


def test_thinned_stages_of_nine_have_no_two_holes_side_by_side_before_half_has_gone() -> None:
    network = make("resnet-56", shape=PICTURE)
    keep = "".join(map(str, kept(uniform_thinning, network, 27 - 3 * 3)))
    assert [keep[start : start + 9].count("0") for start in (0, 9, 18)] == [3, 3, 3]
    assert "00" not in keep[:9] and keep[:9] == keep[9:18] == keep[18:]


@pytest.mark.parametrize("method", [last_k, uniform_thinning])
def test_a_section_that_always_stays_takes_no_turn(method: Any) -> None:
    network = resnet(20)
    network.fix(section for section in network.chain if section.name == "stage1.1")
    assert ["".join(map(str, kept(method, network, count))) for count in (1, 2, 3)] == [
        "00100000",
        "00100100",
        "10100100",
    ]


@pytest.mark.parametrize("method", [last_k, uniform_thinning])
def test_positions_are_those_of_the_names_and_no_data_are_needed(method: Any) -> None:
    network = resnet(20)
    scores = method.score(network, iter([]))
    assert sorted(scores.tolist()) == list(range(9))
    surgery.remove_all_but(network, keep_highest(scores.tolist(), 3))
    assert [section.name for section in network.sections if section.alive] == ["stage1.0", "stage2.0", "stage3.0"]


# --- batch normalisation while slopes are taken -----------------------------------------------------------------

TAYLORS = [feature_taylor, gate_taylor, taylor]


@pytest.mark.parametrize("method", TAYLORS)
def test_in_train_mode_batches_are_normalised_by_themselves(method: Any) -> None:
    """As a whole network in training mode does, but for its running statistics, which stay."""
    network, batches = resnet(), data(16, 16)
    before = snapshot(network)
    found = method.score(network, batches, TaylorSettings(bn="train"))
    assert_untouched(network, before)
    trained = copy.deepcopy(network).train()
    with torch.enable_grad():
        expected = method.score(trained, batches)  # its own running statistics move; they are not looked at
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, method.score(network, batches), rtol=0.01)


@pytest.mark.parametrize("method", TAYLORS)
def test_the_evaluation_mode_is_the_default(method: Any) -> None:
    network, batches = resnet(), data(16)
    default = method.score(network, batches)
    assert torch.equal(default, method.score(network, batches, TaylorSettings()))
    assert not any(layer.training for layer in network.modules())
