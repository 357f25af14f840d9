"""ConcurrentPruner in a training loop of one's own: removal, budgets, export and resume; mistakes are one line."""

import ast
import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import digits, source
from own_networks import EXAMPLE, own, torchvisions
from together import run_together
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library import concurrent_pruner as pruning
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup

# --- training ---------------------------------------------------------------------------------------------------

STEPS = 120


def batches(size: int = 64) -> list[tuple[Tensor, Tensor]]:
    data = digits().train
    order = torch.randperm(len(data), generator=source(3))
    x, y = data.images[order].float() / 255, data.labels[order]
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(x) - size + 1, size)]


def a_pruner(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    sections: FoundSections | None = None,
    **options: object,
) -> ConcurrentPruner:
    sections = sections or find_sections(model, EXAMPLE)
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
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in plain.modules())
    assert type(plain) is type(model) and list(plain.state_dict()) == [
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


def with_a_wide_block() -> nn.Module:
    """The second of its blocks takes longer than the other three together."""
    model = own(width=64)
    wide = model.blocks[1]
    wide.first, wide.second = nn.Linear(64, 8000), nn.Linear(8000, 64)
    return model


def test_a_budget_in_latency_goes_by_what_each_section_takes_and_survives_a_resume() -> None:
    model = with_a_wide_block()
    pruner = a_pruner(model, target_latency=0.5, cost="latency")
    latencies = pruner._latencies
    assert latencies.sections[1] > sum(latencies.sections) - latencies.sections[1]
    assert model.training and "Linear" in str(model.blocks[1])
    train(pruner, range(30))
    state = pruner.state_dict()
    train(pruner, range(30, STEPS))
    assert pruner.removed == ["blocks.1"]
    again = a_pruner(with_a_wide_block(), target_latency=0.5, cost="latency")
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


@pytest.mark.parametrize("stop", [15, 45, 75], ids=["undecided", "some are already removed", "all decided"])
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


def in_shards(group: ProcessGroup) -> list:
    model = own()
    found = find_sections(model, EXAMPLE)
    for each in (*model.blocks, model):
        fully_shard(each)
    return [ConcurrentPruner(model, found, torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1)]


def test_a_model_whose_weights_are_in_shards_is_refused(tmp_path: Path) -> None:
    for text in run_together(in_shards, tmp_path).texts:
        assert text.startswith("error: ConcurrentPruner: the model is sharded") and "DistributedDataParallel" in text


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


# --- taken off again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own", "resnet18"])
def test_a_model_whose_pruner_is_detached_is_what_it_was(name: str) -> None:
    model, x = (own(), torch.randn(4, 1, 28, 28, generator=source(1))) if name == "own" else torchvisions(name)
    before, hooks = copy.deepcopy(model), hooks_of(model)
    pruner = a_pruner(model, sections=find_sections(model, x), nu=0.1)
    assert hooks_of(model) != hooks
    assert pruner.detach() is model and hooks_of(model) == hooks
    outcomes = []
    for each in (before, model):
        torch.manual_seed(1)  # dropout, and layers that are left out at random
        out = each.train()(x)
        out.square().mean().backward()
        outcomes.append([out, *(weight.grad for weight in each.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))
    smaller = layerprune.prune_by_scores(model, find_sections(model, x), "random", keep=1)
    assert len(list(smaller.parameters())) < len(list(model.parameters()))


def hooks_of(model: nn.Module) -> list[object]:
    return [
        (path, len(part._forward_pre_hooks), len(part._forward_hooks), sorted(vars(part)))
        for path, part in model.named_modules()
    ]


def test_another_pruner_goes_on_with_what_the_detached_one_has_left() -> None:
    model = own()
    first = a_pruner(model, target_depth=3, consolidate_at=0.5)
    train(first, range(STEPS // 2))
    assert len(first.removed) == 1
    first.detach()
    x = batches()[0][0]
    assert torch.equal(model.eval()(x), first.export().eval()(x))
    second = a_pruner(model, first.optimizer, nu=3.0)
    first.detach()  # again: it must leave the second's gates alone
    train(second, range(STEPS))
    assert sorted([*first.removed, *second.removed]) == [f"blocks.{place}" for place in range(4)]


@pytest.mark.parametrize("call", ["step", "finish", "load_state_dict"])
def test_a_detached_pruner_decides_nothing_any_more(call: str) -> None:
    pruner = a_pruner(own(), nu=3.0)
    train(pruner, range(10))
    given = [pruner.state_dict()] if call == "load_state_dict" else []
    pruner.detach()
    with pytest.raises(LayerpruneError, match=f"{call}: the pruner has been detached from its model"):
        getattr(pruner, call)(*given)


# --- mistakes ---------------------------------------------------------------------------------------------------


def test_sections_of_another_model_and_a_second_pruner_are_refused() -> None:
    model = own()
    with pytest.raises(LayerpruneError, match="the sections were found in another model"):
        ConcurrentPruner(
            own(), find_sections(model, EXAMPLE), torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1
        )
    a_pruner(model, nu=0.1)
    with pytest.raises(LayerpruneError, match="one pruner per model"):
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
    pruner.model.train()(batches()[0][0])
    with pytest.raises(LayerpruneError, match="step: no backward pass since the forward pass"):
        pruner.step()
    pruner.model(batches()[0][0]).sum().backward()
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
