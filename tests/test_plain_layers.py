"""Layers without a sum around them as sections: an open one is the layer, a closed one its input or zeros, exactly."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import source
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.library.network_files import program_of
from layerprune.library.rewriting import Forward

WIDTH = 6
X = torch.randn(3, WIDTH, 8, 8, generator=source(1))


def conv(channels: int = WIDTH, out: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(channels, out or channels, 3, 1, 1)


class Written(nn.Module):
    """Layers that are called one after the other in a forward method, norm and activation behind each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.wide = conv(), conv(), conv(WIDTH, 2 * WIDTH)
        self.norm, self.act = nn.BatchNorm2d(WIDTH), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x)))
        x = functional.relu(self.second(x), inplace=True)
        return self.wide(x)


class Fire(nn.Module):
    """Two parts side by side, as many channels as before."""

    def __init__(self, out: int = WIDTH) -> None:
        super().__init__()
        self.squeeze, self.left, self.right = conv(WIDTH, 2), conv(2, out // 2), conv(2, out // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.left(x), self.right(x)], 1).relu_()


class Dense(nn.Module):
    """DenseNet's block: each layer takes all before it, in a list."""

    def __init__(self, layers: int = 3, checkpointed: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Grown(WIDTH + 2 * place) for place in range(layers))
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer in self.layers:
            is_checkpointed = self.checkpointed and torch.is_grad_enabled()
            given = list(values)
            values.append(checkpoint(layer, given, use_reentrant=False) if is_checkpointed else layer(given))
        return torch.cat(values, 1)


class Grown(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), conv(channels, 2)

    def forward(self, values: list[Tensor]) -> Tensor:
        return self.conv(torch.relu(self.norm(torch.cat(values, 1))))


class Partial(nn.Module):
    """RexNet's: the shortcut joins some channels of a branch of several modules."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.act, self.reduce = conv(WIDTH, 9), nn.ReLU6(), conv(9, WIDTH + 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.reduce(self.act(self.expand(x)))
        return torch.cat([out[:, :WIDTH] + x, out[:, WIDTH:]], 1)


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(conv(), nn.ReLU(), conv())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Nothing(nn.Module):
    """Zeros where a layer put out a number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, values: Any) -> Tensor:
        first = values[0] if isinstance(values, list) else values
        return first.new_zeros(len(first), self.channels, *first.shape[2:])


def vgg() -> nn.Module:
    features = (conv(), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True), conv(), nn.ReLU(inplace=True))
    head = (
        nn.Flatten(),
        nn.Linear(8 * WIDTH, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 8),
        nn.PReLU(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*features, conv(WIDTH, 8), nn.AdaptiveAvgPool2d((2, 3)), *head)


def tailed(*parts: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*parts, nn.Conv2d(channels, 3, 1))


def identity(*names: str) -> dict[str, Callable[[], nn.Module]]:
    return dict.fromkeys(names, nn.Identity)


Substitutes = dict[str, dict[str, Callable[[], nn.Module]]]
KINDS: dict[str, tuple[Callable[[], nn.Module], Substitutes]] = {
    "vgg": (
        vgg,
        {"0": identity("0", "1", "2"), "3": identity("3", "4"), "11": identity("11", "12")},
    ),
    "written": (
        lambda: nn.Sequential(Written(), nn.Conv2d(2 * WIDTH, 3, 1)),
        {"0.first": identity("0.first", "0.norm", "0.act"), "0.second": identity("0.second")},
    ),
    "fire": (lambda: tailed(Fire(), Fire(8), channels=8), {"0": identity("0")}),
    "dense": (
        lambda: tailed(Dense(), channels=WIDTH + 6),
        {f"0.layers.{place}": {f"0.layers.{place}": lambda: Nothing(2)} for place in range(3)},
    ),
    "dense, checkpointed": (
        lambda: tailed(Dense(checkpointed=True), channels=WIDTH + 6),
        {f"0.layers.{place}": {f"0.layers.{place}": lambda: Nothing(2)} for place in range(3)},
    ),
    "partial": (
        lambda: tailed(Partial(), channels=WIDTH + 2),
        {"0": {**identity("0.expand", "0.act"), "0.reduce": lambda: Nothing(WIDTH + 2)}},
    ),
    "beside a sum": (
        lambda: tailed(conv(), nn.ReLU(), Sum(), channels=WIDTH),
        {"0": identity("0", "1")},
    ),
}
"""Networks, and for each section that is no sum what stands in whose place once it has gone."""


def made(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = KINDS[kind][0]()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.running_mean, std=0.1)
    return model.eval()


def by_hand(model: nn.Module, kind: str, gone: Sequence[str]) -> nn.Module:
    """What is expected without sections, put together without the library."""
    copied = copy.deepcopy(model)
    for section in gone:
        for path, make in KINDS[kind][1][section].items():
            owner, _, name = path.rpartition(".")
            setattr(copied.get_submodule(owner), name, make())
    return copied


def subsets(names: Sequence[str]) -> list[list[str]]:
    return [[], list(names), *([name] for name in names), list(names[::2])]


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def plain(sections: FoundSections, kind: str) -> list[str]:
    return [each.name for each in sections.removable if each.name in KINDS[kind][1]]


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_of_a_kind_are_found_beside_the_sums(kind: str) -> None:
    model = made(kind)
    sections = find_sections(model, X, "any")
    assert plain(sections, kind) == list(KINDS[kind][1])
    others = [each.name for each in sections if each.name not in KINDS[kind][1]]
    assert others == (["2.inner"] if kind == "beside a sum" else [])
    for each in sections.removable:
        own = [model.get_submodule(path).parameters() for path in KINDS[kind][1].get(each.name, ["2.inner"])]
        assert each.params == sum(one.numel() for parameters in own for one in parameters)
        assert each.macs > 0


@pytest.mark.parametrize("kind", KINDS)
def test_open_gates_are_the_network_and_closed_ones_what_is_left(kind: str) -> None:
    model = made(kind)
    whole, sections = copy.deepcopy(model), find_sections(model, X, "any")
    forward = Forward(sections)
    forward.install()
    copied = copy.deepcopy(model)
    assert torch.equal(model(X), whole(X)) and torch.equal(copied(X), whole(X))
    names = [each.name for each in sections.removable]
    for training in (False, True):
        torch.manual_seed(1)
        expected = gradients(copy.deepcopy(whole).train(training), X)
        for value in (None, torch.ones(1, 1), torch.ones(3, 1)):
            forward.values[:] = [value] * len(names)
            torch.manual_seed(1)
            found = gradients(copy_state(model, whole).train(training), X)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    copy_state(model, whole).eval()
    for gone in subsets(list(KINDS[kind][1])):
        forward.values[:] = [torch.zeros(1, 1) if name in gone else None for name in names]
        assert torch.equal(model(X), by_hand(whole, kind, gone)(X))


def copy_state(model: nn.Module, whole: nn.Module) -> nn.Module:
    model.load_state_dict(whole.state_dict())
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_has_its_own_gate(kind: str) -> None:
    model = made(kind)
    whole, sections = copy.deepcopy(model), find_sections(model, X, "any")
    forward = Forward(sections)
    forward.install()
    gone = list(KINDS[kind][1])
    forward.values[:] = [torch.tensor([[1.0], [0], [1]]) if each.name in gone else None for each in sections.removable]
    expected = torch.stack([whole(X)[0], by_hand(whole, kind, gone)(X)[1], whole(X)[2]])
    torch.testing.assert_close(model(X), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_what_closed_gates_compute_for_any_size_saved_exported_and_compiled(
    kind: str, tmp_path: Path
) -> None:
    whole, sizes = made(kind), [X, torch.randn(1, WIDTH, 12, 9, generator=source(2))]
    for gone in subsets(list(KINDS[kind][1]))[1:]:
        smaller = layerprune.remove(copy.deepcopy(whole), gone, X, granularity="any")
        expected = by_hand(whole, kind, gone)
        for x in sizes:
            assert torch.equal(smaller(x), expected(x))
        assert {name for name, _ in smaller.named_parameters()} == {name for name, _ in expected.named_parameters()}
        layerprune.save(smaller, tmp_path / "smaller.safetensors")
        back = layerprune.load(tmp_path / "smaller.safetensors", into=made(kind))
        assert torch.equal(back(sizes[1]), smaller(sizes[1]))
        assert torch.equal(copy.deepcopy(smaller)(X), smaller(X))
    if kind in ("written", "dense", "partial"):
        torch.testing.assert_close(program_of(smaller, X).module()(X), smaller(X))
    if kind == "partial":
        torch.testing.assert_close(torch.compile(smaller, backend="eager")(X), smaller(X))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aim", ["target_depth", "target_macs"])
def test_a_pruner_trains_and_removes_them(kind: str, aim: str) -> None:
    model = made(kind).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sections = find_sections(model, X, "any")
    compiled = torch.compile(model, backend="eager") if kind == "vgg" else model
    costs = [each.macs for each in sections.removable]
    goal = 1 if aim == "target_depth" else 1 - 0.6 * sum(costs) / sections.macs
    pruner = layerprune.ConcurrentPruner(
        model, sections, optimizer, total_steps=12, theta_lr=1.0, check_interval=3, warmup_steps=0, **{aim: goal}
    )
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "dense"):
            compiled(X).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    smaller = pruner.export().eval()
    left = [each for each in sections.removable if each.name not in pruner.removed]
    assert torch.equal(smaller(X), model.eval()(X))
    assert len(left) == 1 if aim == "target_depth" else pruner.removed
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}


@pytest.mark.parametrize("method", ["magnitude", "random", "first-k", "cka"])
@pytest.mark.parametrize("kind", ["vgg", "dense", "partial"])
def test_scores_rank_them_and_the_lowest_go(kind: str, method: str) -> None:
    model = made(kind)
    head = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()) if kind != "vgg" else model
    sections = find_sections(head, X, "any")
    batches = [(X, torch.tensor([0, 1, 2]))]
    scores = layerprune.section_scores(head, sections, method, batches)
    keep = len(scores) - 1
    smaller = layerprune.prune_by_scores(head, sections, method, keep=keep, batches=batches)
    lowest = min(scores, key=scores.__getitem__)
    expected = layerprune.remove(copy.deepcopy(head), [lowest], X, granularity="any")
    assert len(scores) == len(KINDS[kind][1]) and torch.equal(smaller(X), expected(X))


def test_the_influence_of_a_layer_is_the_angle_between_what_it_gets_and_puts_out() -> None:
    model, batches = made("vgg"), [(X, torch.tensor([0, 1, 2]))]
    sections = find_sections(model, X, "any")
    scores = layerprune.section_scores(model, sections, "block-influence", batches)
    expected = {}
    for name, (start, end) in {"0": (0, 3), "3": (3, 5), "11": (11, 13)}.items():
        before, behind = model[:start](X), model[:end](X)
        expected[name] = 1 - float(torch.cosine_similarity(before.flatten(1), behind.flatten(1)).detach().mean())
    assert scores == pytest.approx(expected, abs=1e-5)
    dense = nn.Sequential(made("dense"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(LayerpruneError, match="which have no angle between them"):
        layerprune.section_scores(dense, find_sections(dense, X, "any"), "block-influence", batches)


class Loop(nn.Module):
    """ALBERT's encoder: one layer, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = conv()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Looking(nn.Module):
    """What lies between a layer and its activation is used, too; a layer is used twice; the end is put out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.act, self.twice, self.kept, self.lone = conv(), nn.ReLU(), conv(), conv(), conv()
        self.loop = Loop()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        between = self.seen(x)
        x = self.act(between) * between.mean()
        x = self.loop(self.twice(self.twice(x)))
        return torch.cat([x, self.kept(x)], 1), self.lone(x)


def test_what_others_see_stays_and_what_is_used_twice_is_none() -> None:
    sections = find_sections(Looking().eval(), X, "any")
    assert {each.name: [path for path, _ in each.absence.modules] for each in sections} == {
        "seen": ["seen"], "kept": ["kept"], "lone": ["lone"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(nn.Sequential(conv(), conv()), conv(WIDTH, 3)), ["0.0", "0.1"]),
        (nn.Sequential(nn.Sequential(conv(WIDTH, 12), nn.Conv2d(12, 12, 1), conv(12, WIDTH)), conv(WIDTH, 3)), ["0"]),
        (nn.Sequential(nn.Sequential(nn.ReLU(), conv()), nn.GELU(), conv(WIDTH, 3)), ["0"]),
        (nn.Sequential(nn.Sequential(conv(), nn.Identity()), conv(WIDTH, 3)), ["0"]),
        (nn.Sequential(conv(WIDTH, 4), nn.Sequential(nn.ReLU(inplace=True), conv(4)), conv(4, 3)), ["1.1"]),
    ],
    ids=["halves", "less than half", "nearly all", "all", "overwrites what it is given"],
)
def test_of_layers_within_each_other_the_inner_ones_count_unless_they_are_less_than_half(
    model: nn.Module, names: list[str]
) -> None:
    assert [each.name for each in find_sections(model.eval(), X, "any")] == names


def test_without_being_asked_for_they_are_not_found_but_named() -> None:
    with pytest.raises(LayerpruneError, match=r"no residual section found.*; granularity='any' also takes layers"):
        find_sections(made("vgg"), X)
    with pytest.raises(LayerpruneError, match="no section found: no sum with a shortcut, and no removable layer"):
        find_sections(nn.Sequential(conv(WIDTH, 4), nn.ReLU(), nn.Flatten()), X, "any")
