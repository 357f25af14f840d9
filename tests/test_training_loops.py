"""What training loops do around ConcurrentPruner: skipped steps, several passes, states, and models that change."""

import copy
import math
import pickle
import types
from collections.abc import Callable

import pytest
import torch
from own_networks import EXAMPLE, own
from test_concurrent_pruner import STEPS, Linear, a_pruner, batches, train
from together import run_together
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from layerprune.core.surgery import drop_parameters
from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.system.process_group import ProcessGroup

# --- steps that tell nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("aim", [{"nu": 0.01}, {"target_depth": 2}], ids=["price", "budget"])
def test_a_step_whose_loss_is_not_finite_leaves_theta_where_it_was(broken: float, aim: dict) -> None:
    pruner = a_pruner(own(rate=0.0), **aim, theta_lr=0.05)
    train(pruner, range(30))
    before, delta = pruner.theta, pruner._method.estimator.delta().clone()
    (pruner.model(batches()[0][0]).sum() * broken).backward()
    pruner.optimizer.zero_grad()  # as a loop does that skips the step
    pruner.step()
    assert pruner.theta == before and torch.equal(pruner._method.estimator.delta(), delta)
    train(pruner, range(31, 50))
    assert all(math.isfinite(theta) for theta in pruner.theta.values()) and pruner.theta != before


def delta_after(loop: Callable[[ConcurrentPruner], None], **options: object) -> Tensor:
    """Twenty steps on a model whose Delta is -0.1, -0.2, -0.3."""
    model = Linear()
    values = {"total_steps": 100, "warmup_steps": 90, "consolidate_at": 1.0, "nu": 0.1} | options
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    pruner = ConcurrentPruner(model, find_sections(model, torch.zeros(2, 1)), optimizer, **values)
    for _ in range(20):
        loop(pruner)
        pruner.step()
    return pruner._method.estimator.delta()


def backward(pruner: ConcurrentPruner, count: int = 64) -> None:
    pruner.model(torch.zeros(count, 1)).mean().backward()


def test_passes_that_are_discarded_do_not_count() -> None:
    def twice(pruner: ConcurrentPruner) -> None:
        backward(pruner)  # such as the first pass of sharpness-aware minimization
        pruner.discard()
        backward(pruner)

    torch.testing.assert_close(delta_after(twice), torch.tensor([-0.1, -0.2, -0.3]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("parts", [1, 16, 64])
def test_a_gate_is_on_its_rarer_side_for_four_examples_of_a_step_however_it_is_fed(parts: int) -> None:
    shares = []

    def accumulated(pruner: ConcurrentPruner) -> None:
        pruner._method is not None and pruner._method.theta.fill_(0.98)
        drawn = []
        for _ in range(parts):
            (pruner.model(torch.zeros(64 // parts, 1)).mean() / parts).backward()
            drawn.append(pruner._method.drawn.detach())
        shares.append(1 - float(torch.cat(drawn, 1).mean()))

    delta_after(accumulated)
    assert sum(shares[1:]) / len(shares[1:]) == pytest.approx(4 / 64, abs=0.02)


def test_one_example_at_the_start_does_not_decide_how_often_gates_close() -> None:
    pruner = a_pruner(own(), nu=0.0)
    pruner.model.train()(batches()[0][0][:1])  # as what draws a graph, or asks for shapes
    train(pruner, range(3))
    assert pruner._method.estimator.floor == 4 / 64


class LeavesOut(Linear):
    """May leave all its sections out in training, as models do that drop layers at random."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.leaves_out = nn.Parameter(torch.ones(1)), False

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + (-x if self.training and self.leaves_out else super().forward(x))


def leaving_out() -> ConcurrentPruner:
    model = LeavesOut()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    sections = find_sections(model, torch.zeros(2, 1))
    values = {"total_steps": 100, "warmup_steps": 90, "consolidate_at": 1.0, "nu": 0.1}
    pruner = ConcurrentPruner(model, sections, optimizer, **values)
    for _ in range(20):
        backward(pruner)
        pruner.step()
    model.leaves_out = True
    return pruner


@pytest.mark.parametrize("evaluated", [False, True], ids=["trained", "evaluated meanwhile"])
def test_a_pass_that_met_no_section_says_that_none_matters_to_it(evaluated: bool) -> None:
    pruner = leaving_out()
    before = pruner._method.estimator.delta().clone()
    for _ in range(5):
        pruner.model.train()
        functional.mse_loss(pruner.model(torch.zeros(64, 1)), torch.zeros(64, 1)).backward()
        if evaluated:
            pruner.model.eval()(torch.zeros(64, 1))
        pruner.step()
    after = pruner._method.estimator.delta()
    assert (after.abs() < 0.9 * before.abs()).all() and torch.equal(after.sign(), before.sign())


def test_gates_that_a_backward_pass_left_out_are_told_from_a_backward_pass_that_is_missing() -> None:
    pruner = leaving_out()
    pruner.model(torch.zeros(64, 1))
    with pytest.raises(LayerpruneError, match="no backward pass since the forward pass"):
        pruner.step()
    pruner.model.leaves_out = False
    for differentiate in (torch.autograd.backward, torch.autograd.grad):
        loss = pruner.model(torch.zeros(64, 1)).mean()
        differentiate(loss, inputs=list(pruner.model.parameters()))
        with pytest.raises(LayerpruneError, match="the backward pass left the gates out"):
            pruner.step()
    backward(pruner)
    pruner.step()


# --- the end before the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("aim", [{"nu": 3.0}, {"target_depth": 2}], ids=["price", "budget"])
def test_what_finish_has_decided_is_final(aim: dict) -> None:
    pruner = a_pruner(own(), consolidate_at=0.9, **aim)
    train(pruner, range(10))
    pruner._method.theta.copy_(torch.tensor([0.9, 0.8, 0.2, 0.9]))
    pruner.finish()
    removed = list(pruner.removed)
    assert 0 < len(removed) < 4
    train(pruner, range(10, STEPS + 20))
    assert pruner.removed == removed and not pruner._draws
    assert pruner.state_dict()["steps"] == STEPS + 20


def test_a_shorter_training_from_a_state_is_decided_at_its_next_check() -> None:
    long = a_pruner(own(), nu=0.1, total_steps=STEPS, consolidate_at=0.9)
    train(long, range(60))
    short = a_pruner(own(), nu=0.1, total_steps=70, consolidate_at=0.5)
    short.load_state_dict(long.state_dict())
    train(short, range(60, 70))
    assert short.consolidated and short.export() is not None


# --- states -----------------------------------------------------------------------------------------------------


def test_a_state_within_a_step_leaves_that_step_out() -> None:
    pruner = a_pruner(own(), nu=0.1)
    train(pruner, range(20))
    theta, delta = pruner.theta, pruner._method.estimator.delta().clone()
    functional.cross_entropy(pruner.model(batches()[0][0]), batches()[0][1]).backward()  # and is interrupted here
    again = a_pruner(own(), nu=0.1)
    again.load_state_dict(copy.deepcopy(pruner.state_dict()))
    assert again.theta == theta and torch.equal(again._method.estimator.delta(), delta)
    train(again, range(20, 22))
    assert again._steps == 22


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.update(sections=["elsewhere.0"] * 4), "the state belongs to other sections"),
        (lambda state: state.update(alive=[True]), "the state belongs to other sections"),
        (lambda state: state.update(aims={"nu": 5}), "the state was made with nu 5, not nu 0.1"),
        (lambda state: state.update(aims={"target_depth": 2}), "the state was made with target_depth 2, not nu 0.1"),
        (lambda state: state.pop("noise"), "it has no 'noise'"),
        (lambda state: [state.pop(name) for name in list(state)], "it has no 'alive'"),
    ],
    ids=["other names", "other number", "other price", "other aim", "a part is missing", "another state"],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Callable[[dict], object], told: str) -> None:
    pruner = a_pruner(own(), nu=0.1)
    train(pruner, range(20))
    state = pruner.state_dict()
    change(state)
    again = a_pruner(own(), nu=0.1)
    with pytest.raises(LayerpruneError, match=told):
        again.load_state_dict(state)
    assert again._steps == 0 and again._method is None


def test_a_pruner_is_not_pickled_but_a_module_that_holds_it_is_copied() -> None:
    pruner = a_pruner(own(rate=0.0), nu=0.01)
    pruner.model.pruner = pruner  # as a training module of Lightning may
    train(pruner, range(3))
    average = AveragedModel(pruner.model)
    average.update_parameters(pruner.model)
    train(pruner, range(3, 10))
    with pytest.raises(LayerpruneError, match=r"cannot be pickled: keep its state_dict\(\)"):
        pickle.dumps(pruner)
    assert isinstance(pickle.dumps(pruner.state_dict()), bytes)


def test_a_state_that_is_kept_does_not_go_on_changing() -> None:
    pruner = a_pruner(own(), nu=0.1, theta_lr=0.05)
    train(pruner, range(20))
    kept, theta = pruner.state_dict(), pruner.theta
    train(pruner, range(20, 30))
    again = a_pruner(own(), nu=0.1, theta_lr=0.05)
    again.load_state_dict(kept)
    assert again.theta == theta != pruner.theta


def test_a_state_of_before_names_and_aims_were_in_it_fits() -> None:
    pruner = a_pruner(own(), nu=0.1)
    train(pruner, range(20))
    state = {name: value for name, value in pruner.state_dict().items() if name not in ("sections", "aims")}
    again = a_pruner(own(), nu=0.1)
    again.load_state_dict(state)
    assert again.theta == pruner.theta


def batches_of_a_state(group: ProcessGroup) -> list:
    def made() -> tuple[nn.Module, ConcurrentPruner]:
        model = own(rate=0.0)
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        return wrapped, ConcurrentPruner(wrapped, find_sections(model, EXAMPLE), optimizer, total_steps=60, nu=0.1)

    (trained, pruner), (_, again) = made(), made()
    x, y = (each[group.mine(len(each))] for each in batches()[0])
    functional.cross_entropy(trained.train()(x), y).backward()
    pruner.step()
    again.load_state_dict(pruner.state_dict())
    return [[each.state_dict()["batch"], each._method.estimator.floor] for each in (pruner, again)]


def test_processes_resume_with_the_batch_of_all(tmp_path) -> None:
    for text in run_together(batches_of_a_state, tmp_path).texts:
        assert text == str([[64, 4 / 64], [64, 4 / 64]])


def models_of_their_own(group: ProcessGroup) -> list:
    torch.manual_seed(group.rank)
    model = own()
    with torch.no_grad():
        model.head.weight.add_(group.rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, total_steps=60, nu=0.1)
    return [model.train()(batches()[0][0]).sum().item(), pruner.theta]


def test_models_of_their_own_in_one_group_are_refused(tmp_path) -> None:
    for text in run_together(models_of_their_own, tmp_path).texts:
        assert "disagree on the model's weights" in text and "DistributedDataParallel" in text


# --- optimizers -------------------------------------------------------------------------------------------------


def test_what_leaves_an_optimizer_leaves_its_very_lists_and_has_no_gradient() -> None:
    model = own()
    every = list(model.parameters())
    optimizer = torch.optim.SGD(every, lr=0.1, momentum=0.9)
    model(batches()[0][0]).sum().backward()
    optimizer.step()
    held = optimizer.param_groups[0]["params"]
    gone = list(model.blocks[1].parameters())
    drop_parameters(optimizer, gone)
    assert optimizer.param_groups[0]["params"] is held and len(held) == len(every) - 4
    assert all(each.grad is None for each in gone) and all(each.grad is not None for each in held)
    left = nn.utils.clip_grad_norm_(every, 1e9)  # by a list from before
    assert left == nn.utils.clip_grad_norm_(held, 1e9)


def test_an_optimizer_with_names_keeps_those_of_what_stays() -> None:
    pruner = a_pruner(model := own(), torch.optim.SGD(model.named_parameters(), lr=0.05, momentum=0.9), nu=1.0)
    train(pruner, range(STEPS))
    names = {id(each): name for name, each in model.named_parameters()}
    for group in pruner.optimizer.param_groups:
        assert group["param_names"] == [names[id(each)] for each in group["params"]] and pruner.removed


# --- compiled models --------------------------------------------------------------------------------------------


def test_a_compiled_model_stays_compiled_however_many_sections_leave() -> None:
    calls = 0

    def count(graph: torch.fx.GraphModule, example: list) -> Callable:
        def run(*values: object) -> object:
            nonlocal calls
            calls += 1
            return graph(*values)

        return run

    model = own()
    pruner = a_pruner(model, nu=1e-9, total_steps=100, warmup_steps=40, check_interval=100)
    compiled = torch.compile(model, backend=count)
    with torch._dynamo.config.patch(recompile_limit=2):
        for place in range(4):
            train(pruner, range(place, place + 1), compiled.forward)
            pruner._remove([place])
        calls = 0
        compiled.train()(batches()[0][0])
    assert calls > 0 and len(pruner.removed) == 4


def test_finding_sections_leaves_nothing_behind_that_torch_warns_of(recwarn: pytest.WarningsRecorder) -> None:
    model = own()
    find_sections(model, EXAMPLE)
    torch.compile(model, backend="eager")(EXAMPLE)
    assert not [each for each in recwarn if "hooks" in str(each.message)]


# --- models that are changed meanwhile --------------------------------------------------------------------------


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(28 * 28, 16)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)) for _ in range(3))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize("steps", [0, 20], ids=["before the first step", "in the middle"])
def test_a_module_that_was_replaced_under_its_gate_is_told(steps: int) -> None:
    model = Normalised()
    pruner = a_pruner(model, nu=0.1)
    train(pruner, range(steps))
    model.blocks[1] = copy.deepcopy(model.blocks[1])
    with pytest.raises(LayerpruneError, match=r"section 'blocks.1' has lost its gate: a module of it was replaced"):
        train(pruner, range(steps, steps + 20))


class Squashed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x))


def test_a_forward_of_the_modules_own_is_not_lost_silently() -> None:
    """The additions stand in the blocks' own forward, behind functions, so that gates go into its code."""
    model = own()
    for place in range(4):
        model.blocks[place] = Squashed(32)
    found, block = find_sections(model, EXAMPLE), model.blocks[2]
    plain = block.forward
    block.forward = types.MethodType(lambda self, x: plain(2 * x), block)
    replaced = block.forward
    with pytest.raises(LayerpruneError, match=r"forward of 'blocks.2' was replaced"):
        a_pruner(model, sections=found, nu=0.1)
    assert block.forward is replaced and not any(part._forward_pre_hooks for part in model.modules())
    assert all("forward" not in vars(other) for other in model.blocks if other is not block)


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = own(), own()

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


@pytest.mark.parametrize("first", ["the whole", "a part"])
def test_a_second_pruner_on_a_part_or_on_the_whole_is_refused(first: str) -> None:
    model = Towers()
    pairs = [(each, find_sections(each, EXAMPLE)) for each in (model, model.one)]
    (one, found), (other, others) = pairs if first == "the whole" else reversed(pairs)
    a_pruner(one, sections=found, nu=0.1)
    with pytest.raises(LayerpruneError, match="already has gates"):
        a_pruner(other, sections=others, nu=0.1)
    with pytest.raises(LayerpruneError, match="is being pruned"):
        find_sections(other, EXAMPLE)
    a_pruner(copy.deepcopy(model.other), nu=0.1)


def test_sections_of_a_model_that_has_changed_since_are_one_line() -> None:
    model = own()
    found = find_sections(model, EXAMPLE)
    model.blocks[1] = nn.Identity()
    with pytest.raises(LayerpruneError, match=r"section 'blocks.1' is not in the model any more: call find_sections"):
        a_pruner(model, sections=found, nu=0.1)


def test_an_optimizer_of_many_passes_a_step_is_refused() -> None:
    model = own()
    with pytest.raises(LayerpruneError, match="LBFGS calls the model many times a step"):
        a_pruner(model, torch.optim.LBFGS(model.parameters()), nu=0.1)


# --- what an example is -----------------------------------------------------------------------------------------


class Timed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Linear()

    def forward(self, t: Tensor, x: Tensor, **rest: Tensor) -> Tensor:
        return self.inner(x) + 0 * t.sum()


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model(torch.zeros(1), x),
        lambda model, x: model(t=torch.zeros(1), x=x),
        lambda model, x: model(x=x, t=torch.zeros(7, 7)),
        lambda model, x: model(mask=torch.zeros(9, 9), t=torch.zeros(1), x=x),
    ],
    ids=["by place", "by name", "in another order", "with one more"],
)
@pytest.mark.parametrize(
    "example", [(torch.zeros(1), torch.zeros(1, 1)), {"x": torch.zeros(2, 1), "t": torch.zeros(3)}]
)
def test_each_example_has_its_gates_whatever_argument_comes_first(call: Callable, example: object) -> None:
    model = Timed()
    pruner = a_pruner(model, sections=find_sections(model, example), nu=0.1)
    call(model.train(), torch.zeros(64, 1)).mean().backward()
    assert pruner._method.drawn.shape[1] == 64
