"""The table of before and after, and the picture of a pruning."""

import copy

import matplotlib.pyplot as plt
import pytest
import torch
from networks import images, make
from own_networks import EXAMPLE, own
from test_concurrent_pruner import a_pruner, batches, train
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.measure import count_depth, count_macs, count_params
from layerprune.errors import LayerpruneError
from layerprune.library import examples
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.memory import peak_memory
from layerprune.library.pruning_report import depth_of, sizes_of
from layerprune.library.recording import record


@pytest.mark.parametrize(
    ("arch", "shape"), [("mlp-residual-4", (1, 6, 6)), ("resnet-8", (3, 8, 8)), ("preact-resnet-20", (3, 8, 8))]
)
def test_sizes_are_those_that_the_suite_counts(arch: str, shape: tuple[int, ...]) -> None:
    network, x = make(arch, shape=shape), images(2, shape)
    found = sizes_of(network, x, 3)
    assert found.depth == count_depth(network) and found.sections == 3
    assert (found.macs, found.params) == (count_macs(network, shape), count_params(network))
    assert found.memory == peak_memory(network, x)


class Ways(nn.Module):
    """The longest way has three weight layers; products of values are none, nor is what nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        first = self.layers[0](x)
        self.layers[3](self.layers[3](self.layers[2](self.layers[1](first))))
        return self.layers[4](first) + self.layers[5](first @ first.t() @ first) @ self.layers[1].weight


def test_depth_is_that_of_the_longest_way() -> None:
    assert depth_of(record(Ways(), torch.ones(3, 4))) == 3


CASTS = {"float64": torch.float64, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("dtype", CASTS)
@pytest.mark.parametrize("when", ["before the pruner", "after it"])
def test_the_example_follows_a_model_that_is_cast_after_its_sections_were_found(dtype: str, when: str) -> None:
    model, dtype = own(), CASTS[dtype]
    whole, sections = copy.deepcopy(model), find_sections(model, EXAMPLE)
    if when == "before the pruner":
        model.to(dtype)
    options = {"total_steps": 20, "check_interval": 5, "target_depth": 2, "theta_lr": 1.0}
    pruner = ConcurrentPruner(model, sections, torch.optim.SGD(model.parameters(), lr=0.05), **options)
    model.to(dtype)
    for x, y in batches()[:20]:
        functional.cross_entropy(model(x.to(dtype)).float(), y).backward()
        pruner.optimizer.step()
        pruner.step()
    with pytest.raises(LayerpruneError, match=rf"weights are {dtype}, those of the whole one torch.float32: cast it"):
        pruner.report(whole)
    report = pruner.report(whole.to(dtype), repeats=2)
    assert report.after.sections == 2 and report.after.memory == peak_memory(pruner.export(), EXAMPLE.to(dtype))
    assert sections.example.dtype == dtype and sections.but({}).example.dtype == dtype


def test_only_what_was_in_the_models_type_follows_it() -> None:
    given = {"x": torch.zeros(2), "ids": torch.zeros(2, dtype=torch.long), "times": torch.zeros(2).double()}
    now = examples.in_precision(given, torch.float32, torch.bfloat16)
    assert [each.dtype for each in now.values()] == [torch.bfloat16, torch.long, torch.float64]
    mixed = own()
    mixed.head.bfloat16()
    assert examples.precision_of(mixed) is None and examples.in_precision(given, torch.float32, None) is given


def test_a_report_says_what_there_was_and_what_is_left() -> None:
    model = own()
    whole = copy.deepcopy(model)
    pruner = a_pruner(model, target_depth=1)
    assert str(pruner.report()).count("100 %") == 5
    train(pruner, range(120))
    report, smaller = pruner.report(whole, repeats=2), pruner.export()
    frame, sections = report.frame, find_sections(smaller, EXAMPLE)
    assert report.removed == tuple(pruner.removed) and len(report.removed) == 3
    assert list(frame.columns) == ["before", "after", "left"]
    for column, module, found in (("before", whole, find_sections(whole, EXAMPLE)), ("after", smaller, sections)):
        assert frame.loc["sections", column] == len(found)
        assert frame.loc["depth, weight layers", column] == 2 + 2 * len(found)
        assert frame.loc["MACs", column] == found.macs
        assert frame.loc["parameters", column] == count_params(module)
        assert frame.loc["peak memory, bytes", column] == peak_memory(module, EXAMPLE)
    assert frame["left"].tolist() == (frame["after"] / frame["before"]).tolist() and frame.loc["latency, ms"].min() > 0
    lines = str(report).splitlines()
    assert len({len(line) for line in lines[1:]}) == 1 and lines[1].split() == ["sections", "4", "1", "25", "%"]
    assert "<table" in report._repr_html_()


def test_a_report_and_a_picture_survive_a_resume() -> None:
    pruner = a_pruner(own(), nu=3.0)
    train(pruner, range(100))
    again = a_pruner(own(), nu=3.0)
    again.load_state_dict(copy.deepcopy(pruner.state_dict()))
    assert again.report() == pruner.report() and again._course == pruner._course


def test_a_picture_shows_theta_and_the_cost_at_every_check() -> None:
    pruner = a_pruner(own(), target_macs=0.93)
    with pytest.raises(LayerpruneError, match="plot: nothing to show before the first check, after 10 steps"):
        pruner.plot()
    train(pruner, range(120))
    figure, thetas = pruner.plot(), list(pruner.theta.values())
    of_theta, of_cost = figure.axes
    lines = of_theta.get_lines()[:4]
    assert [line.get_xdata()[-1] for line in lines] == [120] * 4
    assert [line.get_ydata()[-1] for line in lines] == thetas and len(lines[0].get_xdata()) == 12
    left, weighted = (line.get_ydata() for line in of_cost.get_lines()[:2])
    macs = find_sections(pruner.export(), EXAMPLE).macs / pruner.sections.macs
    assert left[0] == 100 and left[-1] == pytest.approx(100 * macs) == weighted[-1]
    assert plt.get_fignums() == []


def test_a_picture_of_a_loss_that_decides_has_it_too_and_many_sections_have_no_legend() -> None:
    losses = iter([1.0, 1.0, 0.9, 1.2])
    pruner = a_pruner(own(blocks=13), max_loss_increase=0.5, validate=lambda: next(losses, 1.1))
    train(pruner, range(40))
    of_theta, _, of_loss = pruner.plot().axes
    assert of_theta.get_legend() is None and len(of_theta.get_lines()) == 13 + 2
    seen = [each.validation for each in pruner._course]
    assert seen[0] is None and seen[1] == (1.0, 1.0, 1.0) and seen[2][::2] == (0.9, 0.9)
    assert of_loss.get_lines()[0].get_ydata()[:2].tolist() == [1.0, 0.9]
