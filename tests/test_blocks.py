"""Whole blocks as sections: a block with all its additions, and the norms behind them, stays or hands its input on."""

import copy
from pathlib import Path

import pytest
import torch
from networks import source
from torch import Tensor, nn

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.library.rewriting import Forward

X = torch.randn(4, 5, 8, generator=source(0))


class Layer(nn.Module):
    """A transformer's layer without attention: two additions, with the norm before or behind."""

    def __init__(self, out: int = 8, norm_behind: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.norm_behind = nn.LayerNorm(8), norm_behind
        self.widen = nn.Linear(8, out) if out != 8 else None
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor, scale: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        x = x + torch.tanh(self.first(x if self.norm_behind else self.norm(x)))
        x = x + scale * self.dropout(torch.relu(self.second(x)))
        weights = x.softmax(-1)
        if self.norm_behind:
            x = self.norm(x)
        return (x if self.widen is None else self.widen(x)), weights


class Stack(nn.Module):
    """Layers that are called with their input by position or by name."""

    def __init__(self, *layers: nn.Module, named: bool = False, peeking: bool = False, rounds: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(layers[-1].widen.out_features if layers[-1].widen is not None else 8, 3)
        self.named, self.peeking, self.rounds = named, peeking, rounds

    def forward(self, x: Tensor) -> Tensor:
        seen = 0
        for layer in self.layers:
            for _ in range(self.rounds):
                x, weights = layer(scale=torch.tensor(0.5), x=x) if self.named else layer(x)
            seen = weights.mean() + seen if self.peeking else 0
        return self.head(x).mean(1) + seen


def stack(**options: bool) -> Stack:
    torch.manual_seed(0)
    behind = options.pop("norm_behind", False)
    return Stack(*(Layer(norm_behind=behind) for _ in range(3)), **options).eval()


KINDS = [{}, {"named": True}, {"norm_behind": True}]


def removed(model: nn.Module, sections: FoundSections, places: list[int]) -> nn.Module:
    copied = copy.deepcopy(model)
    Forward(sections.of_copy(copied)).remove(places)
    return copied


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_closed_block_hands_its_input_on_and_an_open_one_is_what_it_was(kind: dict) -> None:
    model = stack(**kind)
    expected = model(X)
    without = copy.deepcopy(model)
    del without.layers[1]
    sections = find_sections(model, X, "layer")
    assert [each.name for each in sections.removable] == ["layers.0", "layers.1", "layers.2"]
    assert {each.macs for each in sections} == {5 * 2 * 64}
    assert {each.params for each in sections} == {sum(each.numel() for each in model.layers[0].parameters())}
    forward = Forward(sections)
    forward.install()
    assert torch.equal(model(X), expected)
    forward.values[:] = [None, torch.zeros(1, 1), torch.ones(4, 1)]
    assert torch.equal(model(X), without(X))
    forward.values[1] = torch.tensor([[1.0], [0], [0], [1]])  # of examples
    assert torch.equal(model(X), torch.cat([expected[:1], without(X)[1:3], expected[3:]]))
    forward.gates.stop()
    forward.remove([1])
    assert torch.equal(model(X), without(X))


def test_the_slope_of_a_gate_is_what_the_block_changes() -> None:
    model = stack()
    sections = find_sections(model, X, "layer")
    forward = Forward(sections)
    forward.install()
    gate = torch.ones(4, 1, requires_grad=True)
    forward.values[2] = gate
    model(X).sum().backward()
    entering, *_ = model.layers[1](model.layers[0](X)[0])
    change = model.layers[2](entering)[0] - entering
    expected = (change @ model.head.weight.T).sum(-1).mean(1, keepdim=True)
    torch.testing.assert_close(gate.grad, expected)


def test_a_pruner_removes_whole_blocks_and_what_it_exports_is_read_into_a_whole_model(tmp_path: Path) -> None:
    model = stack().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sections = find_sections(model, X, "layer")
    pruner = layerprune.ConcurrentPruner(
        model, sections, optimizer, total_steps=20, target_depth=1, theta_lr=1.0, check_interval=5
    )
    for _ in range(20):
        model(X).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert len(pruner.removed) == 2 and len(list(model.parameters())) == 6 + 2
    smaller = pruner.export().eval()
    assert torch.equal(smaller(X), model.eval()(X))
    layerprune.save(smaller, tmp_path / "smaller.safetensors")
    back = layerprune.load(tmp_path / "smaller.safetensors", into=stack())
    assert torch.equal(back(X), smaller(X))
    assert [each.name for each in find_sections(back, X, "layer")] == sorted(
        {each.name for each in sections} - set(pruner.removed)
    )


def test_blocks_are_removed_by_name_and_by_score() -> None:
    model = stack(norm_behind=True)
    with torch.no_grad():
        model.layers[1].first.weight.mul_(1e-3)  # it turns what it gets least
        model.layers[1].second.weight.mul_(1e-3)
    sections = find_sections(model, X, "layer")
    expected = removed(model, sections, [1])(X)
    smaller = layerprune.prune_by_scores(model, sections, "block-influence", keep=2, batches=[(X, torch.zeros(4))])
    assert torch.equal(smaller(X), expected)
    assert torch.equal(layerprune.remove(model, ["layers.1"], X, granularity="layer")(X), expected)


def test_the_influence_of_a_block_is_the_angle_between_what_goes_in_and_what_comes_out() -> None:
    model = stack(norm_behind=True)
    sections = find_sections(model, X, "layer")
    scores = layerprune.section_scores(model, sections, "block-influence", [(X, torch.zeros(4))])
    x, expected = X, []
    for layer in model.layers:
        behind = layer(x)[0]
        expected.append(1 - float(torch.cosine_similarity(x.flatten(1), behind.flatten(1)).detach().mean()))
        x = behind
    torch.testing.assert_close(list(scores.values()), expected, rtol=1e-4, atol=1e-6)


class Loose(nn.Module):
    """An addition that stands in no list, before blocks that do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(Plain(), Plain()) for _ in range(2)))
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x + torch.tanh(self.mix(x)))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.linear(x))


def test_blocks_of_stages_are_the_blocks_and_what_stands_alone_is_a_section_of_its_own() -> None:
    found = find_sections(Loose(), X, "layer")
    assert [each.name for each in found.removable] == ["mix", "layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Stack(Layer(), Layer(12)), "does not put out what has the shape of its input"),
        (Stack(Layer(), Layer(), rounds=2), "'layers.0' is used more than once"),
        (Stack(Layer(), Layer(), peeking=True), "what 'softmax' computes is used by 'mean' too"),
    ],
)
def test_a_block_that_cannot_go_whole_says_why(model: nn.Module, reason: str) -> None:
    reasons = {each.reason for each in find_sections(model.eval(), X, "layer") if not each.removable}
    assert reason in reasons


def test_there_are_three_granularities() -> None:
    with pytest.raises(LayerpruneError, match="granularity is 'section', 'layer' or 'any', not 'block'"):
        find_sections(stack(), X, "block")
