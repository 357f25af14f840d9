"""Layers against channels: the two sides have equal MACs, by two counters, and are timed in the same turns."""

import pytest
import torch
from torch import nn

from bench import __main__ as command
from bench import against_torch_pruning as against
from layerprune.core import timing
from layerprune.core.measure import count_macs
from layerprune.errors import LayerpruneError

pytestmark = pytest.mark.bench

pytest.importorskip("torch_pruning")

TINY = against.Case("resnet-14", lambda: against.cifar_resnet(14), (3, 16, 16))


def macs(network: nn.Module) -> int:
    return count_macs(network, TINY.shape)


@pytest.mark.parametrize("share", [0.7, 0.5])
def test_both_sides_are_pruned_to_the_same_macs(share: float) -> None:
    networks = against.pruned_both_ways(TINY, share)
    assert set(networks) - {"channels in eights"} == {"dense", "channels", "layers"}
    assert macs(networks["layers"]) / macs(networks["dense"]) == pytest.approx(share, abs=0.1)
    assert macs(networks["channels"]) == pytest.approx(macs(networks["layers"]), rel=against.TOLERANCE)
    convolutions = {
        name: [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        for name, network in networks.items()
    }
    assert len(convolutions["channels"]) == len(convolutions["dense"]) > len(convolutions["layers"])
    assert max(map(int.__sub__, convolutions["dense"], convolutions["channels"])) > 0
    assert all(network(torch.zeros(2, *TINY.shape)).shape == (2, 10) for network in networks.values())


def test_they_are_timed_in_the_same_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    networks = against.pruned_both_ways(TINY, 0.5)
    measured, *_ = against.side_by_side(TINY, networks, batch=2, rounds=3)
    assert measured.ratio > 0 and measured.low <= measured.ratio <= measured.high and measured.rounds == 3
    share = macs(networks["layers"]) / macs(networks["dense"])
    assert measured.name == f"layers / channels, resnet-14, {share:.2f} of the MACs, batch 2"
    assert [part.split()[0] for part in measured.note.split("; ")] == ["dense", "channels", "layers"]


def test_the_ratio_is_formed_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "milliseconds", lambda works, repeats: [[9.0, 9.0], [2.0, 4.0], [4.0, 4.0], [1.0, 1.0]])
    names = ("dense", "channels", "channels in eights", "layers")
    networks = dict.fromkeys(names, TINY.build().eval())
    measured, rounded = against.side_by_side(TINY, networks, batch=1, rounds=2)
    assert measured.ratio == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert "channels 3 ms (2.5 .. 3.5)" in measured.note
    assert rounded.ratio == 1 / 4 and rounded.name.startswith("layers / channels in eights, resnet-14, ")


def test_channels_in_eights_are_multiples_of_eight_with_as_many_macs() -> None:
    torch.manual_seed(0)
    dense = TINY.build().eval()
    wanted = macs(against._torch_pruning(dense, TINY.shape, 0.3, round_to=8))
    pruned = against.without_channels(dense, TINY.shape, wanted, round_to=8)
    widths = {layer.out_channels for layer in pruned.modules() if isinstance(layer, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)
    assert macs(pruned) == pytest.approx(wanted, rel=against.TOLERANCE) and wanted < 0.9 * macs(dense)


@pytest.mark.parametrize("case", against.CASES, ids=lambda case: case.name)
def test_the_counters_agree_on_the_dense_networks(case: against.Case) -> None:
    small = (3, 32, 32)
    network = case.build().eval()
    assert against.their_macs(network, small) == count_macs(network, small)
    assert not any(layer._forward_hooks for layer in network.modules())


def test_counters_that_disagree_and_macs_that_cannot_be_met_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LayerpruneError, match="torch-pruning: no ratio leaves 7 MACs; the nearest are "):
        against.without_channels(TINY.build().eval(), TINY.shape, macs=7)
    monkeypatch.setattr(against, "their_macs", lambda network, shape: 7)
    with pytest.raises(LayerpruneError, match=r"resnet-14: [\d,]+ MACs counted here, 7 by torch-pruning"):
        against.pruned_both_ways(TINY, 0.5)


def test_the_part_measures_every_network_share_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(timing, "milliseconds", lambda works, repeats: [[1.0] * repeats for _ in works])
    monkeypatch.setattr(against, "CASES", (TINY,))
    measured = command.measure(["against-torch-pruning"], True)
    names = [(each.name.rpartition(", ")[2], each.rounds) for each in measured if "eights" not in each.name]
    assert names == [("batch 1", 25), ("batch 32", 3)] * len(against.SHARES)
