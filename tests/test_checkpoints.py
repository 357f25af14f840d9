"""Gradient checkpoints in and around a model: what is computed again has the gates of the pass that it repeats."""

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from networks import source
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from layerprune.errors import LayerpruneError
from layerprune.library import recomputation
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections

WIDTH = 6
X = torch.randn(8, WIDTH, generator=source(1), dtype=torch.float64)


Call = Callable[[Tensor], Tensor]
Run = Callable[[Any, Tensor], Tensor]
Use = Callable[[nn.Module, Call], None]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropped = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.dropout(self.second(torch.tanh(self.first(x))), self.dropped)


class InAFunction(Block):
    """Adds in a function of its own, which `compute` may put a checkpoint around."""

    def __init__(self) -> None:
        super().__init__()
        self.compute: Callable[[Call, Tensor], Tensor] = lambda function, x: function(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(
            lambda q: q + nn.functional.dropout(self.second(torch.tanh(self.first(q))), self.dropped), x
        )


class Network(nn.Module):
    """Four blocks between two layers; `run` runs a list of blocks, with checkpoints or without."""

    def __init__(self, block: type[Block] = Block) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(block() for _ in range(4))
        self.run: Run = plainly

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.blocks, self.stem(x)))


def plainly(blocks: Any, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def each(reentrant: bool) -> Run:
    def run(blocks: Any, x: Tensor) -> Tensor:
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return x

    return run


def halves(reentrant: bool) -> Run:
    return lambda blocks, x: checkpoint_sequential(nn.Sequential(*blocks), 2, x, use_reentrant=reentrant)


def within(outer: bool, inner: bool) -> Run:
    """Checkpoints in a checkpoint."""
    return lambda blocks, x: checkpoint(each(inner), blocks, x, use_reentrant=outer)


def around(call: Run, reentrant: bool) -> Run:
    return lambda model, x: checkpoint(call, model, x, use_reentrant=reentrant)


def alone(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def with_more(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.sin()).tanh() * 2


INSIDE = {
    **{f"each block, {way}": each(way) for way in (False, True)},
    **{f"halves, {way}": halves(way) for way in (False, True)},
    **{f"nested, {ways}": within(*ways) for ways in itertools.product((False, True), repeat=2)},
}
AROUND = {f"around the model, {way}": way for way in (False, True)}
WAYS = {
    **{name: (run, alone) for name, run in INSIDE.items()},
    **{name: (plainly, around(alone, way)) for name, way in AROUND.items()},
    **{f"{name}, and inside": (each(True), around(alone, way)) for name, way in AROUND.items()},
    **{f"{name}, and inside too": (each(False), around(alone, way)) for name, way in AROUND.items()},
}


def a_pruner(run: Run = plainly, block: type[Block] = Block, **options: Any) -> ConcurrentPruner:
    """Of a model whose checkpoints begin afterwards."""
    torch.manual_seed(0)
    model = Network(block).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values = {"nu": 0.01, "total_steps": 100, "check_interval": 1, "theta_lr": 1.0, "warmup_steps": 0} | options
    pruner = ConcurrentPruner(model, find_sections(model, X), optimizer, **values)
    model.run = run
    for block in model.blocks:
        block.dropped = 0.2
    return pruner


def gradients(use: Use, run: Run, call: Run) -> list[Tensor]:
    """Of weights and of gates, after the model was used with checkpoints, or without."""
    pruner = a_pruner(run)
    model = pruner.model
    use(model, lambda x: call(model, x.clone().requires_grad_()))
    slopes = [drawn.grad for drawn, _ in pruner._draws if drawn.grad is not None]
    return [*(weight.grad for weight in model.parameters()), *slopes]


# --- several passes ---------------------------------------------------------------------------------------------


def loss(outputs: Tensor) -> Tensor:
    return outputs.square().mean()


def one_backward(model: nn.Module, call: Call) -> None:
    (loss(call(X)) + 2 * loss(call(X + 1))).backward()


def a_product(model: nn.Module, call: Call) -> None:
    first, second, third = call(X), call(X + 1), call(X - 1)
    (loss(second * first) + loss(first - third)).backward()


def first_pass_first(model: nn.Module, call: Call) -> None:
    for each_loss in [loss(call(X)), loss(call(2 * X))]:
        each_loss.backward()


def last_pass_first(model: nn.Module, call: Call) -> None:
    for each_loss in reversed([loss(call(X)), loss(call(2 * X)), loss(call(3 * X))]):
        each_loss.backward()


def one_into_the_other(model: nn.Module, call: Call) -> None:
    loss(call(torch.cat([call(X), call(X + 1)], 1))).backward()


def other_batches(model: nn.Module, call: Call) -> None:
    (loss(call(X[:3])) + loss(call(X)) + loss(call(X[:1]))).backward()


def without_gradients_between(model: nn.Module, call: Call) -> None:
    first = call(X)
    with torch.no_grad():
        call(X + 1)
        model(X + 1)
        model.eval()(X)
    model.train()
    loss(first).backward()


def evaluation_between(model: nn.Module, call: Call) -> None:
    first = call(X)
    model.eval()
    second = call(X + 1)
    model.train()
    third = call(X + 2)
    (loss(first) + loss(second) + loss(third)).backward()


def parts_between(model: nn.Module, call: Call) -> None:
    """Which are open, also if they are computed again."""
    first = call(X)
    second = checkpoint(model.blocks[0], X.clone().requires_grad_(), use_reentrant=False)
    third = call(X + 2)
    (loss(first) + loss(second) + loss(third)).backward()


def the_same_twice(model: nn.Module, call: Call) -> None:
    first = loss(call(X))
    call(X + 1)
    first.backward(retain_graph=True)
    call(X + 2)
    first.backward()


USES = [
    *(one_backward, a_product, first_pass_first, last_pass_first, one_into_the_other, other_batches),
    *(without_gradients_between, evaluation_between, parts_between, the_same_twice),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_the_model_without_checkpoints(way: str, use: Use) -> None:
    torch.testing.assert_close(gradients(use, *WAYS[way]), gradients(use, plainly, alone), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("around_all", [None, False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_are_the_same_where_a_checkpoint_is_around_a_function_that_adds(
    reentrant: bool, around_all: bool | None, use: Use
) -> None:
    found = []
    for compute in (None, partial(checkpoint, use_reentrant=reentrant)):
        pruner = a_pruner(block=InAFunction)
        model, call = pruner.model, alone if around_all is None else around(alone, around_all)
        for block in model.blocks if compute else ():
            block.compute = compute
        use(model, lambda x, model=model, call=call: call(model, x.clone().requires_grad_()))
        slopes = [drawn.grad for drawn, _ in pruner._draws if drawn.grad is not None]
        found.append([*(weight.grad for weight in model.parameters()), *slopes])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


def test_a_penalty_on_gradients_is_that_of_the_model_without_checkpoints() -> None:
    def penalised(model: nn.Module, call: Call) -> None:
        first, second = call(X), call(X + 1)
        slopes = torch.autograd.grad(loss(first), list(model.blocks.parameters()), create_graph=True)
        (loss(second) + sum(each_slope.square().sum() for each_slope in slopes)).backward()

    torch.testing.assert_close(gradients(penalised, each(False), alone), gradients(penalised, plainly, alone))


@pytest.mark.parametrize("reentrant", [False, True])
def test_training_with_checkpoints_is_training_without_them(reentrant: bool) -> None:
    """Sections leave, and `finish` comes before the end."""

    def trained(run: Run) -> tuple[ConcurrentPruner, list[Tensor]]:
        pruner, losses = a_pruner(run, nu=1.0, total_steps=40), []
        for step in range(40):
            views = [pruner.model(X + offset) for offset in (0, 1)]
            losses.append(loss(views[0] - views[1] - 1))
            losses[-1].backward()
            pruner.optimizer.step()
            pruner.optimizer.zero_grad()
            pruner.step()
            if step == 15:
                pruner.finish()
        return pruner, losses

    (pruner, losses), (other, others) = trained(each(reentrant)), trained(plainly)
    assert pruner.removed == other.removed != []
    torch.testing.assert_close(losses, others)
    assert len(pruner._forward.gates.passes._kept) <= 2


# --- checkpoints around more than the model ---------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_may_hold_more_than_the_model(reentrant: bool) -> None:
    def once(model: nn.Module, call: Call) -> None:
        loss(call(X)).backward()

    torch.testing.assert_close(
        gradients(once, plainly, around(with_more, reentrant)), gradients(once, plainly, with_more)
    )


def twice(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) * model(x + 1)).tanh()


@pytest.mark.parametrize("reentrant", [False, True])
def test_two_passes_in_a_checkpoint_are_refused(reentrant: bool) -> None:
    with pytest.raises(LayerpruneError, match="which of several forward passes a checkpoint computes again"):
        gradients(lambda model, call: loss(call(X)).backward(), plainly, around(twice, reentrant))


def test_a_checkpoint_of_more_than_the_model_is_refused_if_there_are_several() -> None:
    with pytest.raises(LayerpruneError, match="put it around the model alone"):
        gradients(one_backward, plainly, around(with_more, False))


def test_where_all_gates_are_alike_it_does_not_matter_which_pass_it_is() -> None:
    slopes = []
    for call in (twice, around(twice, False), around(twice, True)):
        pruner = a_pruner()
        loss(pruner.model(X)).backward()
        pruner.step()
        pruner.finish()
        given = X.clone().requires_grad_()
        call(pruner.model.eval(), given).sum().backward()
        slopes.append(given.grad)
    torch.testing.assert_close(slopes[1:], slopes[:1] * 2)


# --- what is no longer known ------------------------------------------------------------------------------------


def steps_later(steps: int) -> None:
    pruner = a_pruner(each(False))
    first = loss(pruner.model(X))
    for _ in range(steps):
        loss(pruner.model(X)).backward()
        pruner.step()
    first.backward()


def test_a_pass_of_the_step_before_can_be_differentiated_and_an_older_one_is_refused() -> None:
    steps_later(1)
    with pytest.raises(LayerpruneError, match=r"gates are no longer known: call backward\(\) before step\(\)"):
        steps_later(2)


def test_passes_without_a_step_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputation, "LONGEST", 3)
    pruner = a_pruner(each(False))
    losses = [loss(pruner.model.eval()(X)) for _ in range(4)]
    assert len(pruner._forward.gates.passes._kept) == 3
    for each_loss in losses[1:]:
        each_loss.backward()
    with pytest.raises(LayerpruneError, match="after at most 3 forward passes"):
        losses[0].backward()


def test_passes_in_several_threads_are_refused() -> None:
    """Each thread numbers its nodes from the beginning."""
    pruner = a_pruner(each(False), verify=False)
    losses: list[Tensor] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: losses.append(loss(pruner.model(X))))
        thread.start()
        thread.join()
    with pytest.raises(LayerpruneError, match="call the model in one thread"):
        losses[0].backward()


class Layers(nn.Sequential):
    """Convolutions with a norm behind, in two checkpoints."""

    first = 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            return super().forward(x)
        for part in (self[: self.first], self[self.first :]):
            x = checkpoint(part, x, use_reentrant=False)
        return x


@pytest.mark.parametrize("first", [2, 3], ids=["between sections", "within one"])
def test_a_checkpoint_may_begin_where_a_section_begins_and_not_within_its_layers(first: int) -> None:
    model = Layers(*(each_layer for _ in range(2) for each_layer in (nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4))))
    x = torch.randn(3, 4, 5, 5, generator=source(2))
    sections = find_sections(model, x, "any")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ConcurrentPruner(model, sections, optimizer, total_steps=10, nu=0.1, warmup_steps=0)
    assert len(sections.removable) == 2
    model.first = first
    if first == 2:
        loss(model(x)).backward()
        return
    with pytest.raises(LayerpruneError, match="a checkpoint begins between '2' and '3', inside of a section"):
        loss(model(x)).backward()


# --- passes that end otherwise ----------------------------------------------------------------------------------


def test_a_pass_after_an_interrupted_one_is_like_any_other() -> None:
    pruner = a_pruner(each(False))
    model = pruner.model

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = model.head.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(X)
    hook.remove()
    loss(model(X)).backward()
    block = model.blocks[0]
    block.dropped = 0.0
    assert torch.equal(block(X), X + block.second(torch.tanh(block.first(X))))
    pruner.step()


def test_a_hook_may_call_the_model_in_a_backward_pass() -> None:
    pruner = a_pruner(each(False))
    model, outputs = pruner.model, []

    def called(_: Tensor) -> None:
        with torch.no_grad():
            outputs.append(model.eval()(X))

    model.stem.weight.register_post_accumulate_grad_hook(called)
    loss(model(X)).backward()
    assert len(outputs) == 1
