"""The library face: sections of networks that nobody registered, gates on them, their removal, export and resume."""

import ast
import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from networks import digits, source
from together import run_together
from torch import Tensor, nn
from torch.nn import functional

import layerprune
from layerprune.core.measure import count_macs
from layerprune.errors import LayerpruneError
from layerprune.library import concurrent_pruner as pruning
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import FoundSections, find_sections
from layerprune.library.rewriting import Forward
from layerprune.library.tracing import register_block
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

# --- networks of somebody's own ---------------------------------------------------------------------------------


class Residual(nn.Module):
    """A block as people write them: the activation behind the addition, dropout as a function."""

    def __init__(self, width: int, rate: float = 0.1) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        out = functional.dropout(torch.relu(self.first(x)), self.rate, self.training)
        return torch.relu(x + self.second(out))


class Own(nn.Module):
    def __init__(self, blocks: int = 4, width: int = 32, classes: int = 10, rate: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Linear(28 * 28, width)
        self.blocks = nn.Sequential(*(Residual(width, rate) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x.flatten(1)))))


class Branching(nn.Module):
    """What torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        return self.act(x + out) if out.abs().max() >= 0 else x


def own(**options: float) -> Own:
    torch.manual_seed(0)
    return Own(**options)


EXAMPLE = torch.zeros(2, 1, 28, 28)

# --- finding ----------------------------------------------------------------------------------------------------

FAMILIES = {
    "resnet18": 8,
    "resnet50": 16,
    "wide_resnet50_2": 16,
    "resnext50_32x4d": 16,
    "regnet_y_400mf": 16,
    "mobilenet_v2": 10,
    "mobilenet_v3_small": 6,
    "efficientnet_b0": 9,
    "convnext_tiny": 18,
    "swin_t": 24,
    "vit_b_16": 24,
}
"""torchvision's networks -> their residual sections; a transformer's block has two."""


def torchvisions(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=5)
    return model, torch.randn(2, 3, *[224 if name == "vit_b_16" else 64] * 2, generator=source(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_section_of_torchvisions_networks_is_found_and_may_go(name: str) -> None:
    model, example = torchvisions(name)
    found = find_sections(model, example)
    assert len(found) == len(found.removable) == FAMILIES[name]
    assert len({section.name for section in found}) == len(found)
    assert all(section.macs > 0 and section.params > 0 for section in found)
    assert sum(section.macs for section in found) < found.macs


def test_costs_are_those_of_the_networks_counted_here() -> None:
    model, example = torchvisions("resnet18")
    found = find_sections(model, example)
    assert found.macs == count_macs(model, (3, 64, 64))
    assert [section.name for section in found][:3] == ["layer1.0", "layer1.1", "layer2.0"]
    assert found[2].shape == (128, 8, 8)
    block = model.layer2[0]  # its shortcut, a convolution and a norm, stays
    parts = (block.conv1, block.bn1, block.conv2, block.bn2)
    assert found[2].params == sum(each.numel() for part in parts for each in part.parameters())
    assert "layer2.0" in str(found) and str(found).count("yes") == 8


def test_the_model_is_as_it_was_after_its_sections_were_looked_for() -> None:
    model, example = torchvisions("resnet18")
    model.train()
    model.layer1.eval()
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    find_sections(model, example)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes and "forward" not in model.__dict__


def test_a_block_that_cannot_be_traced_is_named_and_can_be_registered() -> None:
    model, example = nn.Sequential(Branching(), Branching(), nn.Linear(8, 3)), torch.randn(4, 8, generator=source(0))
    with pytest.raises(LayerpruneError, match=r"Sequential: cannot be traced by torch.fx: .*layerprune.register_block"):
        find_sections(model, example)
    register_block(Branching, branch="body", activation="act")
    found = find_sections(model, example)
    assert [section.name for section in found.removable] == ["0.body", "1.body"]
    reference = model(example)
    Forward(found).install()
    torch.testing.assert_close(model(example), reference)


class Shared(Own):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.blocks[0].first.weight.sum()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


class Peeking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.first(x)
        return x + self.second(torch.relu(hidden)), hidden.mean()


def test_a_section_that_may_not_go_says_why() -> None:
    example = torch.randn(4, 8, generator=source(0))
    assert {section.reason for section in find_sections(Twice(), example)} == {"'block.first' is used more than once"}
    (peeking,) = find_sections(Peeking(), example)
    assert peeking.reason == "what 'first' computes is used by 'mean' too"
    hooked = own()
    hooked.blocks[1].second.register_forward_hook(lambda *_: None)
    assert [section.removable for section in find_sections(hooked, EXAMPLE)] == [True, False, True, True]
    tied = own()
    tied.blocks[2].second.weight = tied.blocks[3].first.weight
    reasons = [section.reason for section in find_sections(tied, EXAMPLE)]
    assert reasons[:2] == ["", ""] and all(reason.startswith("shares weights with 'blocks.") for reason in reasons[2:])


class Making(nn.Module):
    """Asks its input for its shape, makes a tensor of nothing, uses a buffer, and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.register_buffer("scale", torch.full((8,), 2.0))

    def forward(self, x: Tensor, mask: Tensor | None = None, **rest: object) -> dict[str, Tensor]:
        count, width = x.shape
        if width != self.body.in_features or x.dtype != self.body.weight.dtype:
            raise ValueError("an unfitting input")
        places = torch.arange(width) / width
        return {"out": x + self.body(self.norm(x + places) * self.scale.view(-1)).view(count, width)}


def test_a_forward_method_that_asks_for_shapes_is_followed_for_batches_of_every_size() -> None:
    torch.manual_seed(0)
    model, x = Making().eval(), torch.randn(4, 8, generator=source(0))
    found = find_sections(model, x[:1])
    assert [section.params for section in found.removable] == [88]
    reference = model(x)["out"]
    forward = Forward(found)
    forward.install()
    torch.testing.assert_close(model(x)["out"], reference)
    torch.testing.assert_close(model(x, mask=None)["out"], reference)
    torch.testing.assert_close(model(x=x[:3])["out"], reference[:3])
    with pytest.raises(LayerpruneError, match=r"its sections were found for the input 'x' alone; 'mask' cannot be giv"):
        model(x, mask=x)
    forward.remove([0])
    assert torch.equal(model(x)["out"], x) and list(model.state_dict()) == []


class Checking(nn.Module):
    """A layer that checks its input, and tells in vain what it was, as timm's batch norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        torch._assert(hidden.ndim == 2, f"expected 2 dimensions, not {hidden.ndim}")
        return x + self.second(torch.relu(hidden))


def test_a_check_within_a_section_goes_with_it() -> None:
    model, x = Checking(), torch.randn(4, 8, generator=source(0))
    found = find_sections(model, x)
    assert [section.removable for section in found] == [True]
    Forward(found).remove([0])
    torch.testing.assert_close(model(x), x)


def test_nothing_to_find_is_one_line() -> None:
    with pytest.raises(LayerpruneError, match=r"Sequential: no residual section found; looked for additions"):
        find_sections(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.zeros(2, 8))
    with pytest.raises(LayerpruneError, match=r"Own: does not take the example input of shape \[2, 5\]"):
        find_sections(own(), torch.zeros(2, 5))


# --- gates and removal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet18", "regnet_y_400mf", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "swin_t"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_removed_section_computes_what_a_closed_gate_does(name: str, seed: int) -> None:
    model, x = torchvisions(name)
    model.eval()
    reference, forward = model(x), Forward(find_sections(model, x))
    forward.install()
    torch.testing.assert_close(model(x), reference)
    count = len(forward.alive)
    gone = torch.randperm(count, generator=source(seed))[: count // 2 + seed].tolist()
    for place in gone:
        forward.values[place] = torch.zeros(1, 1)
    closed = model(x)
    forward.values[:] = [None] * count
    before = sum(each.numel() for each in model.parameters())
    left = forward.remove(gone)
    torch.testing.assert_close(model(x), closed, atol=1e-5, rtol=1e-4)
    assert sum(each.numel() for each in model.parameters()) == before - sum(each.numel() for each in left)
    plain = forward.plain().eval()
    torch.testing.assert_close(plain(x), closed, atol=1e-5, rtol=1e-4)
    assert plain.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "convnext_tiny"])
def test_what_is_left_still_learns_although_activations_work_in_place(name: str) -> None:
    model, x = torchvisions(name)
    forward = Forward(find_sections(model, x))
    forward.remove(range(0, len(forward.alive), 2))
    model.train()(x).sum().backward()
    assert all(each.grad is not None for each in model.parameters())


class InPlace(nn.Module):
    """An activation that works in place on what a section adds to, and somebody who needs the original."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        return self.act(x + self.body(x)) + 10 * x


def test_what_is_passed_on_is_not_overwritten_where_it_is_needed_again() -> None:
    model, x = InPlace().eval(), torch.randn(4, 8, generator=source(4))
    found = find_sections(model, x)
    forward = Forward(found)
    forward.remove([place for place, section in enumerate(found.removable) if section.name == "body"])
    torch.testing.assert_close(model(x), torch.relu(x - 0.5) + 10 * (x - 0.5))


def test_a_gate_belongs_to_one_example() -> None:
    model, x = own().eval(), torch.randn(3, 1, 28, 28, generator=source(2))
    forward = Forward(find_sections(model, x))
    forward.install()
    forward.values[1] = torch.tensor([[1.0], [0.0], [1.0]])
    mixed = model(x)
    forward.values[1] = None
    opened = model(x)
    forward.values[1] = torch.zeros(1, 1)
    torch.testing.assert_close(mixed, torch.stack([opened[0], model(x)[1], opened[2]]))


def test_dropout_follows_the_mode_although_it_is_a_function() -> None:
    model, x = own(), torch.randn(8, 1, 28, 28, generator=source(2))
    Forward(find_sections(model, x)).install()
    assert torch.equal(model.eval()(x), model(x)) and not torch.equal(model.train()(x), model(x))


# --- training ---------------------------------------------------------------------------------------------------

STEPS = 120


def batches(size: int = 64) -> list[tuple[Tensor, Tensor]]:
    data = digits().train
    order = torch.randperm(len(data), generator=source(3))
    x, y = data.images[order].float() / 255, data.labels[order]
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(x) - size + 1, size)]


def a_pruner(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **options: object) -> ConcurrentPruner:
    sections = find_sections(model, EXAMPLE)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    values = {"total_steps": STEPS, "theta_lr": 1.0, "check_interval": 10} | options
    return ConcurrentPruner(model, sections, optimizer, **values)


def train(pruner: ConcurrentPruner, steps: range, call: Callable[[Tensor], Tensor] | None = None) -> None:
    data, model = batches(), call or pruner.model
    pruner.model.train()
    for step in steps:
        x, y = data[step % len(data)]
        functional.cross_entropy(model(x), y).backward()
        pruner.optimizer.step()
        pruner.optimizer.zero_grad()
        pruner.step()


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_sections_leave_model_and_optimizer_and_what_is_exported_is_plain(make: type) -> None:
    model = own()
    optimizer = make(model.parameters(), lr=0.01)
    told: list[str] = []
    pruner = a_pruner(model, optimizer, nu=3.0, on_removal=told.extend)  # dearer than any section is worth
    train(pruner, range(STEPS))
    assert sorted(pruner.removed) == sorted(told) == [f"blocks.{place}" for place in range(4)]
    assert set(pruner.theta.values()) == {0.0} and pruner.consolidated
    held = [each for group in optimizer.param_groups for each in group["params"]]
    assert len(held) == len(list(model.parameters())) == 4 and set(optimizer.state) <= set(held)
    plain, x = pruner.export().eval(), batches()[0][0]
    torch.testing.assert_close(plain(x), model.eval()(x))
    assert "gate" not in plain.code and list(plain.state_dict()) == [
        "stem.weight",
        "stem.bias",
        "head.weight",
        "head.bias",
    ]
    assert not any(each is other for each in plain.parameters() for other in model.parameters())


def test_cheap_sections_stay_and_the_network_learns() -> None:
    pruner = a_pruner(own(), nu=0.0, drawn_share=0.5)
    train(pruner, range(STEPS))
    model, (x, y) = pruner.export().eval(), batches()[0]
    assert len(pruner.removed) < 4 and float((model(x).argmax(1) == y).float().mean()) > 0.8


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_sections_are_left_as_asked(count: int) -> None:
    pruner = a_pruner(own(), target_depth=count)
    train(pruner, range(STEPS))
    assert len(pruner.removed) == 4 - count


def test_a_budget_in_latency_goes_by_what_each_section_takes_and_survives_a_resume() -> None:
    model = own(width=64)
    wide = model.blocks[1]  # takes longer than the other three together
    wide.first, wide.second = nn.Linear(64, 8000), nn.Linear(8000, 64)
    pruner = a_pruner(model, target_latency=0.5, cost="latency")
    latencies = pruner._latencies
    assert latencies.sections[1] > sum(latencies.sections) - latencies.sections[1]
    assert model.training and "Linear" in str(model.blocks[1])
    train(pruner, range(30))
    state = pruner.state_dict()
    train(pruner, range(30, STEPS))
    assert pruner.removed == ["blocks.1"]
    again = a_pruner(own(width=64), target_latency=0.5, cost="latency")
    again.load_state_dict(state)
    assert again._method.latencies == latencies and again._method.budget.costs == latencies.sections


def test_evaluation_shows_the_network_that_would_be_left() -> None:
    pruner = a_pruner(own(), nu=3.0, consolidate_at=1.0, theta_lr=0.1, warmup_steps=5)
    train(pruner, range(8))
    assert not pruner.removed and all(theta < 0.5 for theta in pruner.theta.values())
    x = batches()[0][0]
    shown = pruner.model.eval()(x)
    pruner.finish()
    torch.testing.assert_close(pruner.model(x), shown)
    assert len(pruner.removed) == 4


class Linear(nn.Module):
    """Each open section lowers every example's loss by its own amount: Delta is minus that."""

    def __init__(self) -> None:
        super().__init__()
        self.sections = nn.ModuleList(nn.Sequential(nn.Linear(1, 1), nn.Identity()) for _ in range(3))
        with torch.no_grad():
            for place, section in enumerate(self.sections):
                section[0].weight.zero_(), section[0].bias.fill_(0.1 * (place + 1))

    def forward(self, x: Tensor) -> Tensor:
        for section in self.sections:
            x = x + section(x)
        return -x


@pytest.mark.parametrize("parts", [1, 4], ids=["whole batches", "accumulated"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.3])  # of 64 gates 0.3 are 20, rounded up, of 16 they are 5
def test_delta_is_in_units_of_the_mean_loss_however_the_batch_is_fed(parts: int, scaled: bool, share: float) -> None:
    model = Linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=scaled)
    sections = find_sections(model, torch.zeros(2, 1))
    pruner = ConcurrentPruner(
        model,
        sections,
        optimizer,
        total_steps=100,
        warmup_steps=90,
        consolidate_at=1.0,
        nu=0.1,
        scaler=scaler,
        drawn_share=share,
    )
    for _ in range(20):
        for _ in range(parts):
            scaler.scale(model(torch.zeros(64 // parts, 1)).mean() / parts).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        pruner.step()
    torch.testing.assert_close(pruner._method.estimator.delta(), torch.tensor([-0.1, -0.2, -0.3]), atol=1e-5, rtol=0)


def test_it_works_under_autocast_and_compiled() -> None:
    pruner = a_pruner(own(), nu=0.05)
    compiled = torch.compile(pruner.model, backend="eager")

    def call(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return compiled(x).float()

    train(pruner, range(STEPS), call)
    x = batches()[0][0]
    torch.testing.assert_close(compiled.eval()(x), pruner.export().eval()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stop", [15, 45, 75], ids=["undecided", "some have left", "all decided"])
def test_a_training_goes_on_exactly_from_its_states(stop: int) -> None:
    options = {"nu": 0.05, "theta_lr": 2.0, "warmup_steps": 10}
    torch.manual_seed(1)  # dropout's
    whole = a_pruner(own(), **options)
    train(whole, range(stop))
    states = [copy.deepcopy(each.state_dict()) for each in (whole, whole.model, whole.optimizer)]
    noise = torch.get_rng_state()
    train(whole, range(stop, STEPS))
    again = a_pruner(own(), **options)
    for part, state in zip((again, again.model, again.optimizer), states, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(noise)
    train(again, range(stop, STEPS))
    assert again.removed == whole.removed and len(whole.removed) > 0
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in whole.model.state_dict().items())


def shared(group: ProcessGroup) -> list:
    """Half of every batch for each process; the sections that left, theta, and a weight."""
    model = own(rate=0.0)
    trained = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True) if group.size > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = find_sections(model, EXAMPLE)
    options = {"total_steps": 60, "target_depth": 2, "theta_lr": 1.0, "check_interval": 10, "warmup_steps": 5}
    pruner = ConcurrentPruner(trained, found, optimizer, **options)
    data, thetas = batches(), []
    trained.train()
    for step in range(60):
        x, y = (each[group.mine(len(each))] for each in data[step % len(data)])
        functional.cross_entropy(trained(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        thetas.append(list(pruner.theta.values()))
    return [pruner.removed, thetas[::10], model.head.weight.sum().item()]


def test_processes_that_train_together_decide_what_one_decides(tmp_path: Path) -> None:
    first, second = map(ast.literal_eval, run_together(shared, tmp_path).texts)
    alone = shared(SINGLE_PROCESS)
    assert first == second and first[0] == alone[0] and len(alone[0]) == 2
    assert first[1] == [pytest.approx(theta, abs=1e-3) for theta in alone[1]]
    assert first[2] == pytest.approx(alone[2], abs=1e-3)


def without_a_word(group: ProcessGroup) -> list:
    model = own()
    found = find_sections(model, EXAMPLE)
    wrapped = nn.parallel.DistributedDataParallel(model)
    return [ConcurrentPruner(wrapped, found, torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1)]


def test_a_wrapper_that_would_wait_for_what_has_gone_is_refused(tmp_path: Path) -> None:
    for text in run_together(without_a_word, tmp_path).texts:
        assert text.startswith("error: ConcurrentPruner: ") and "find_unused_parameters=True" in text


def test_a_pruned_network_comes_back_from_its_file_without_its_class(tmp_path: Path) -> None:
    pruner = a_pruner(own(), target_depth=2)
    train(pruner, range(STEPS))
    plain, x = pruner.export().eval(), batches()[0][0]
    layerprune.save(plain, tmp_path / "smaller.pt2", x[:1])
    again = layerprune.load(tmp_path / "smaller.pt2")
    for count in (1, 5, 64):
        torch.testing.assert_close(again(x[:count]), plain(x[:count]))
    (tmp_path / "smaller.pt2").write_bytes(b"no program")
    with pytest.raises(LayerpruneError, match=r"smaller.pt2: not a program of torch.export"):
        layerprune.load(tmp_path / "smaller.pt2")
    with pytest.raises(LayerpruneError, match=r"elsewhere.pt2: no such file"):
        layerprune.load(tmp_path / "elsewhere.pt2")


# --- mistakes ---------------------------------------------------------------------------------------------------


def test_sections_of_another_model_and_a_second_pruner_are_refused() -> None:
    model = own()
    with pytest.raises(LayerpruneError, match="the sections were found in another model"):
        ConcurrentPruner(
            own(), find_sections(model, EXAMPLE), torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1
        )
    a_pruner(model, nu=0.1)
    with pytest.raises(LayerpruneError, match="one pruner a model"):
        ConcurrentPruner(
            model, FoundSections(model, *vars_of(model)), torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1
        )


def vars_of(model: nn.Module) -> tuple:
    found = find_sections(own(), EXAMPLE)
    return found.trace, found.macs, list(found), EXAMPLE


def test_step_wants_a_forward_and_a_backward_pass_each_time() -> None:
    pruner = a_pruner(own(), nu=0.1)
    with pytest.raises(LayerpruneError, match="step: no forward pass in training mode since the last step"):
        pruner.step()
    loss = pruner.model.train()(batches()[0][0]).sum()
    with pytest.raises(LayerpruneError, match="step: no backward pass since the forward pass"):
        pruner.step()
    loss = pruner.model(batches()[0][0]).sum()
    with pytest.raises(LayerpruneError, match=r"state_dict: call it after step\(\)"):
        pruner.state_dict()
    loss.backward()
    pruner.step()
    with pytest.raises(LayerpruneError, match="step: no forward pass"):
        pruner.step()


def test_an_export_of_what_is_undecided_is_refused() -> None:
    pruner = a_pruner(own(), nu=0.1)
    train(pruner, range(5))
    with pytest.raises(LayerpruneError, match="export: sections are still undecided after 5 steps"):
        pruner.export()


def test_wrapped_models_are_unwrapped() -> None:
    model = own()
    assert pruning.unwrapped(torch.compile(model, backend="eager")) is model
