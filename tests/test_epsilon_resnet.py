"""epsilon-ResNet: what is discarded, what a discarded branch is left with, and when it leaves."""

from typing import Any

import pytest
import torch
from networks import a_context, a_run, images, make
from test_methods import small
from torch import Tensor

from layerprune.core.methods.trained import epsilon_resnet
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import EpsilonResnetSettings
from layerprune.suite.run.measure import certificate, smaller_network
from layerprune.suite.run.train import train

SHAPE = (1, 4, 4)


def a_method(network: SectionedNetwork, **settings: Any) -> epsilon_resnet.Method:
    """Ten steps an epoch, twenty in all."""
    given = {"epsilon": 1.0, "start": 0.0, "patience": "3it"} | settings
    return epsilon_resnet.Method(EpsilonResnetSettings(**given), network, a_context(network))


def with_responses(sizes: list[float]) -> SectionedNetwork:
    """A network whose branches answer with one number everywhere, whatever comes in."""
    network = small(len(sizes))
    for section, size in zip(network.sections, sizes, strict=True):
        section.branch[-1].weight.data.zero_()
        section.branch[-1].bias.data.fill_(size)
    return network


def logits_without(network: SectionedNetwork, gone: list[int], x: Tensor) -> Tensor:
    return network(x, torch.tensor([float(index not in gone) for index in range(len(network.sections))]).view(-1, 1, 1))


def test_a_branch_is_discarded_where_no_response_exceeds_epsilon_in_size() -> None:
    network, x = with_responses([0.9, -0.9, 1.1, -1.1]), images(5, SHAPE)
    method = a_method(network)
    assert torch.allclose(network(x, method.gates(0, 5)), logits_without(network, [0, 1], x))
    assert method.discarded.tolist() == [1, 1, 0, 0]


def test_one_response_of_one_example_keeps_a_branch_for_the_whole_batch() -> None:
    method = a_method(with_responses([0.1]))
    method.gates(0, 5)
    out = torch.zeros(5, 100)
    assert method._gate(0, out).tolist() == [[0]]
    out[3, 7] = -1.5
    assert method._gate(0, out).tolist() == [[1]]


def test_a_discarded_branch_gets_no_gradient_and_an_open_one_its_own() -> None:
    network, x = with_responses([0.5, 1.5]), images(5, SHAPE)
    network(x, a_method(network).gates(0, 5)).sum().backward()
    slopes = [section.branch[-1].bias.grad.abs().sum().item() for section in network.sections]
    assert slopes[0] == 0 and slopes[1] > 0


def test_a_count_without_a_break_decides_who_leaves() -> None:
    network = with_responses([0.5, 0.5, 1.5])
    method, x = a_method(network), images(5, SHAPE)
    for step in range(3):
        network(x, method.gates(step, 5))
        assert method.removals(step + 1) == ([0, 1] if step == 2 else [])
    network.sections[0].branch[-1].bias.data.fill_(2.0)
    network(x, method.gates(3, 5))
    assert method.removals(4) == [1] and method.discarded.tolist() == [0, 4, 0]


def test_nothing_is_discarded_before_the_start() -> None:
    method = a_method(small(2), start=0.5)
    assert method.gates(9, 5) is None and method.gates(10, 5) is not None


def test_what_is_discarded_in_the_end_is_gone_and_the_network_is_the_one_that_was_evaluated() -> None:
    # Responses of 0.9 in the first section cannot grow past epsilon in four steps this small.
    run = a_run("epsilon-resnet", settings={"epsilon": 50.0, "start": 0.5, "patience": "100ep"}, lr=1e-4)
    finished = train(run)
    assert finished.outcome.keep == [0, 0, 0, 0]
    assert certificate(run, finished, smaller_network(finished)) < 1e-5
    kept = train(a_run("epsilon-resnet", settings={"epsilon": 1e-6, "start": 0.0}, lr=1e-4))
    assert kept.outcome.keep == [1, 1, 1, 1]


@pytest.mark.parametrize("arch", ["preact-resnet-8", "mlp-residual-2"])
def test_it_works_on_every_network_whose_branches_end_open(arch: str) -> None:
    shape = (3, 8, 8) if arch.startswith("preact") else SHAPE
    network = make(arch, shape=shape)
    method = a_method(network, epsilon=1e6)
    network(images(4, shape), method.gates(0, 4))
    assert method.discarded.tolist() == [1] * len(network.sections)
