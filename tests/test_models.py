"""Networks are ordered lists of sections; gates, closed branches and removed branches mean what they say."""

import os
import subprocess
import sys

import pytest
import torch
from networks import IMAGE, images, make, source
from torch import nn

from layerprune.core.networks import layout
from layerprune.core.networks.build import build
from layerprune.core.networks.sections import CLOSED, Section, mask_gates
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError

ARCHS = {"lenet-300-100": 2, "lenet5": 3, "mlp-residual-1": 1, "mlp-residual-7": 7}


@pytest.mark.parametrize(("arch", "sections"), ARCHS.items())
def test_an_architecture_has_its_sections_and_gives_ten_logits(arch: str, sections: int) -> None:
    network = make(arch)
    assert len(network.sections) == sections
    assert network(images(3)).shape == (3, 10)
    assert network.keep() == [1] * sections


@pytest.mark.parametrize("arch", ARCHS)
def test_section_names_are_unique(arch: str) -> None:
    names = [section.name for section in make(arch).sections]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("arch", ARCHS)
def test_weights_depend_on_the_given_generator_alone(arch: str) -> None:
    torch.manual_seed(1)
    first = build(arch, IMAGE, 10, source(3)).state_dict()
    torch.manual_seed(2)
    second = build(arch, IMAGE, 10, source(3)).state_dict()
    other = build(arch, IMAGE, 10, source(4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_gates_of_one_are_the_plain_network() -> None:
    network = make("lenet5")
    x = images(2)
    torch.testing.assert_close(network(x, mask_gates([1, 1, 1])), network(x))


def test_a_section_adds_the_gated_branch_to_its_shortcut() -> None:
    branch, shortcut = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for layer, weight, bias in ((branch, 2.0, 1.0), (shortcut, -3.0, 0.5)):
            layer.weight.fill_(weight), layer.bias.fill_(bias)
    section = Section("only", branch, shortcut, nn.ReLU())
    x = torch.tensor([[1.0], [4.0], [-2.0]])
    gates = torch.tensor([[1.0], [0.5], [1.0]])
    # 1: 3 - 2.5; 4: 4.5 - 11.5 < 0; -2: -3 + 6.5
    assert section(x, gates).flatten().tolist() == [0.5, 0.0, 3.5]


def test_gates_differ_from_example_to_example() -> None:
    network, x = make("mlp-residual-3"), images(2)
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).unsqueeze(2)
    both = network(x, gates)
    for row in (0, 1):
        alone = network(x[row : row + 1], gates[:, row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone)


def test_a_closed_branch_is_not_computed_and_counts_as_zero() -> None:
    network, x = make("mlp-residual-3"), images(2)
    called: list[int] = []
    for index, section in enumerate(network.sections):
        section.branch.register_forward_hook(lambda *told, index=index: called.append(index))
    closed = network(x, [None, CLOSED, None])
    assert called == [0, 2]
    torch.testing.assert_close(closed, network(x, mask_gates([1, 0, 1])))


def test_gradients_reach_every_gate() -> None:
    network = make("lenet5")
    gates = mask_gates([1, 0, 1]).expand(3, 4, 1).clone().requires_grad_()
    network(images(4), gates).square().sum().backward()
    assert gates.grad.shape == (3, 4, 1) and bool((gates.grad != 0).all())


def test_branches_of_a_deeper_residual_network_start_smaller() -> None:
    spread = {count: make(f"mlp-residual-{count}").sections[0].branch[-1].weight.std().item() for count in (5, 20)}
    assert spread[5] / spread[20] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("arch", ["densenet-121", "lenet5-7", "mlp-residual-x", "mlp-residual-0", "mlp-residual"])
def test_an_unknown_architecture_is_one_clear_line(arch: str) -> None:
    with pytest.raises(LayerpruneError, match=arch) as caught:
        make(arch)
    assert "\n" not in str(caught.value)


def test_lenet5_says_which_images_it_needs() -> None:
    with pytest.raises(LayerpruneError, match="28x28"):
        make("lenet5", shape=(1, 32, 32))


# --- the order of dimensions in memory ------------------------------------------------------------------------------

PROJECTIONS = """
import torch
from layerprune.core.networks import layout
from layerprune.core.networks.build import build
from layerprune.core.settings import ModelSettings
torch.set_num_threads(1)
for width in (2, 4, 6, 8):
    settings = ModelSettings(width=width, shortcut="b")
    network = layout.place(build("resnet-8", (3, 16, 16), 10, torch.Generator(), settings), torch.device("cpu")).train()
    for _ in range(4):
        network(torch.randn(4, 3, 16, 16)).sum().backward()
"""


@pytest.mark.parametrize(("width", "shortcut", "channels_last"), [(4, "b", False), (4, "a", True), (8, "b", True)])
def test_convolutions_are_channels_last_but_where_that_breaks(width: int, shortcut: str, channels_last: bool) -> None:
    network = build("resnet-8", (3, 32, 32), 10, source(0), ModelSettings(width=width, shortcut=shortcut))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    placed = layout.place(network, torch.device("cpu"))
    weight = placed.sections[0].branch[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert all(torch.equal(value, before[name]) for name, value in placed.state_dict().items())


def test_narrow_networks_train_on_a_cpu_that_has_no_more_than_avx2() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    ended = subprocess.run([sys.executable, "-c", PROJECTIONS], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-1000:]
