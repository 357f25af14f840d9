"""Kinds of networks and uses that the library once failed on: each in several variants, gated and cut exactly."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import pytest
import safetensors.torch
import torch
from kinds import KINDS, WIDTH, Chain, Dropping, Plain, Recomputed, convolutions, images, mlp, three, vectors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo.catalog import Animal
from zoo.exactness import differences, seen
from zoo.examine import examine

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library import smaller_models
from layerprune.library.absence import Gone
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.prune_by_scores import prune_by_scores
from layerprune.library.recording import tensors_of
from layerprune.library.rewriting import Forward

STEPS = 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_the_kind_is_gated_and_cut_exactly(kind: str) -> None:
    count, make = KINDS[kind]
    row = examine(Animal(kind, "own", make))
    assert (row.removable, row.differs) == (count, []), row.reason
    assert row.pruned > 0 and row.gap <= 1e-6


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.01)


def a_pruner(model: nn.Module, example: Any, optimizer: Any = None, **options: Any) -> ConcurrentPruner:
    values = {"total_steps": STEPS, "target_depth": 1, "check_interval": 1, "warmup_steps": 0} | options
    return ConcurrentPruner(model, find_sections(model, example), optimizer or optimizer_of(model), **values)


def train(
    pruner: ConcurrentPruner, x: Tensor, steps: int = STEPS, each: Callable[[int], None] = lambda step: None
) -> None:
    optimizers = pruner.optimizer if isinstance(pruner.optimizer, list) else [pruner.optimizer]
    for step in range(steps):
        pruner.model.train()(x).square().mean().backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
        pruner.step()
        each(step)


@pytest.mark.parametrize("kind", ["R07 padded", "R07 windows", "R28 handed on"])
def test_pictures_may_have_other_sizes(kind: str) -> None:
    model, (example,) = KINDS[kind][1]()
    original = copy.deepcopy(model)
    Forward(find_sections(model, example)).install()
    for size in (4, 6, 10):
        for training in (True, False):
            x = images(size)
            assert differences(seen(original, x, training), seen(model, x, training)) == []


@pytest.mark.parametrize("average", ["deepcopy", "swa", "ema"])
def test_copies_compute_for_themselves_and_follow_removals(average: str) -> None:
    """R03"""
    model = three(Plain, convolutions)
    pruner, x = a_pruner(model, images()), images()
    makers = {"swa": {}, "ema": {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}}
    copied = AveragedModel(model, use_buffers=True, **makers.get(average, {}))
    if average == "deepcopy":
        copied = copy.deepcopy(model)
    train(pruner, x, each=lambda step: average == "deepcopy" or copied.update_parameters(model))
    inner = copied if average == "deepcopy" else copied.module
    assert len(pruner.removed) == 2
    assert inner.state_dict().keys() == pruner.export().state_dict().keys()
    plain = pruner.export()
    plain.load_state_dict(inner.state_dict())
    assert torch.equal(plain.eval()(x[:1]), inner.eval()(x[:1]))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_twice(reentrant: bool) -> None:
    """R08"""
    model = Recomputed(*(Plain(mlp()) for _ in range(3)), reentrant=reentrant)
    pruner, calls = a_pruner(model, vectors(), target_depth=3), []
    model.blocks[1].inner[0].register_forward_hook(lambda *_: calls.append(1))
    train(pruner, vectors(), steps=3)
    assert len(calls) == 6


@pytest.mark.parametrize("skipped", ["no loss", "a pass for the accuracy", "another gradient"])
def test_a_pass_without_a_backward_pass_is_left_out(skipped: str) -> None:
    """R09"""
    model, x = three(Plain), vectors()
    pruner = a_pruner(model, x)
    for step in range(STEPS):
        output = model.train()(x)
        if step == 2 and skipped == "no loss":
            continue
        if skipped == "a pass for the accuracy":
            model(2 * x)
        if skipped == "another gradient":
            given = x.clone().requires_grad_()
            torch.autograd.grad(model(given).sum(), given)
        output.square().mean().backward()
        pruner.optimizer.step()
        pruner.step()
    pruner.finish()
    assert len(pruner.removed) == 2


@pytest.mark.parametrize("frozen", ["a block", "its norms"])
def test_frozen_sections_stay_and_the_others_are_gated(frozen: str) -> None:
    """R10"""
    model = Chain(*(Plain(nn.Sequential(nn.LayerNorm(WIDTH), mlp())) for _ in range(4)))
    for block in model.blocks[:2]:
        (block if frozen == "a block" else block.inner[0]).requires_grad_(False)
    pruner = a_pruner(model, vectors())
    train(pruner, vectors())
    pruner.finish()
    stays = [not each.removable for each in pruner.sections]
    assert stays == ([True, True, False, False] if frozen == "a block" else [False] * 4)
    assert [each.reason for each in pruner.sections if not each.removable] == ["frozen"] * sum(stays)
    assert len(pruner.removed) == 3 - sum(stays)


@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_are_called_and_parts_can_be_called_alone(when: str) -> None:
    """R16"""
    model, x, calls = three(Plain), vectors(), []
    if when == "before":
        model.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    pruner = a_pruner(model, x, target_depth=2)
    calls.clear()
    if when == "after":
        model.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    train(pruner, x)
    pruner.finish()
    assert len(calls) == STEPS
    for block in model.blocks:
        assert block(x).shape == x.shape


@pytest.mark.parametrize("way", ["whole blocks", "half"])
def test_smaller_models_are_read_back_pickled_and_trained_on(way: str, tmp_path: Path) -> None:
    """R18"""
    make = (lambda: three(Plain)) if way == "whole blocks" else (lambda: three(kinds.Listed, second=mlp))
    model, x = make(), vectors()
    names = [each.name for each in find_sections(model, x)][: 1 if way == "whole blocks" else 3]
    layerprune.remove(model, names, x)
    layerprune.save(model, tmp_path / "x.safetensors")
    read = layerprune.load(tmp_path / "x.safetensors", into=make())
    unpickled = pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for each in (read, unpickled, torch.load(file, weights_only=False)):
        assert torch.equal(each(x), model(x))
        pruner = a_pruner(each, x)
        train(pruner, x)
        pruner.finish()
        assert len(pruner.removed) == len(pruner.sections) - 1


def test_a_section_may_go_if_those_within_cannot() -> None:
    """Which only a trial shows."""
    model, (x,) = KINDS["what is within cannot go"][1]()
    sections = find_sections(model, x)
    assert [each.name for each in sections.removable] == [f"blocks.{number}" for number in range(3)]
    inner = [each for each in sections if not each.removable]
    assert len(inner) == 3 and all("the model does not run without it" in each.reason for each in inner)


def test_what_asks_for_sizes_of_what_is_absent_is_read_back(tmp_path: Path) -> None:
    make = KINDS["modulated"][1]
    model, (x,) = make()
    layerprune.remove(model, [find_sections(model, x)[0].name], x)
    layerprune.save(model, tmp_path / "x.safetensors")
    read = layerprune.load(tmp_path / "x.safetensors", into=make()[0])
    for each in (read, pickle.loads(pickle.dumps(model))):
        for other in (x, x[:1], torch.randn(3, WIDTH, 5, 6)):
            assert torch.equal(each(other), model(other))


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"last": 5}, (-1, 5)), ({"other": [-3, 27]}, (-3, 27)), ({"last": None}, None), ({"other": None}, None)],
    ids=str,
)
def test_a_size_of_what_is_absent_is_read_from_files_of_before_too(
    told: dict, expected: tuple[int, int] | None
) -> None:
    assert smaller_models._other(told) == expected
    assert Gone(other=told.get("last") or expected).other == expected  # as a pickle has it


@pytest.mark.parametrize("other", [[1], [1, 2, 3], 5, ["a", 1], [1, 1.5], [True, 1]], ids=str)
def test_a_made_up_size_of_what_is_absent_is_one_line(other: Any, tmp_path: Path) -> None:
    make = KINDS["modulated"][1]
    model, (x,) = make()
    layerprune.remove(model, [find_sections(model, x)[0].name], x)
    layerprune.save(model, tmp_path / "x.safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        told = json.loads(file.metadata()[smaller_models._KEY])
    sized = [leaf for each in told["modules"] for leaf in each["leaves"] if leaf["other"]]
    assert sized
    sized[0]["other"] = other
    metadata = {smaller_models._KEY: json.dumps(told)}
    safetensors.torch.save_file(dict(model.state_dict()), tmp_path / "x.safetensors", metadata)
    with pytest.raises(LayerpruneError, match=r"not a model that layerprune\.save has written") as error:
        layerprune.load(tmp_path / "x.safetensors", into=make()[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["R12 stochastic depth", "R19 functions of the mode"])
def test_what_was_cut_still_follows_its_mode(kind: str) -> None:
    """R19"""
    model, (x,) = KINDS[kind][1]()
    small = prune_by_scores(model, find_sections(model, x), "magnitude", keep=2)
    assert any(not torch.equal(small.train()(x), small(x)) for _ in range(50))  # one draw may be like the next
    assert torch.equal(small.eval()(x), small(x))
    buffers = [each.clone() for each in small.buffers()]
    small.train()(x)
    assert any(not torch.equal(each, before) for each, before in zip(small.buffers(), buffers, strict=True))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))


@pytest.mark.long
def test_a_program_of_torch_export_is_refused_in_one_line() -> None:
    program = torch.export.export(mlp(), (vectors(),)).module()
    with pytest.raises(LayerpruneError, match=r"is a program of torch\.export, which cannot be pruned"):
        find_sections(program, vectors())


def being_pruned() -> nn.Module:
    model = three(Plain)
    a_pruner(model, vectors())
    return model


WRONG: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "another width": (mlp, vectors(3, 5), r"does not accept the example input of shape \[3, 5\]: mat1 and mat2"),
    "too many arguments": (mlp, (vectors(), vectors()), "does not accept the example input of shape .*: .*argument"),
    "an unknown name": (lambda: three(Plain), {"y": vectors()}, "does not accept the example input of shape"),
    "a class": (Plain, vectors(), "find_sections: give an instance of a module, not the class Plain"),
    "no module": ("resnet18", vectors(), "find_sections: give an instance of a module"),
    "no tensor": (mlp, (3,), r"the example input is a tensor .*, not \(3,\)"),
    "an empty batch": (mlp, vectors()[:0], "is an empty batch"),
    "nowhere": (lambda: mlp().to("meta"), vectors(), "is on the meta device, where nothing is computed"),
    "TorchScript": (scripted, vectors(), "is TorchScript: find sections in the module it was made from"),
    "being pruned": (being_pruned, vectors(), r"is being pruned: find sections in what its pruner exports"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_searched_is_one_line(wrong: str, recwarn: pytest.WarningsRecorder) -> None:
    """R20, R21"""
    make, example, complaint = WRONG[wrong]
    model = make if wrong in ("a class", "no module") else make()
    with pytest.raises(LayerpruneError, match=complaint) as error:
        find_sections(model, example)
    assert "\n" not in str(error.value)
    assert not [each.message for each in recwarn if "hook" in str(each.message)]


@pytest.mark.parametrize("compiled", ["the model", "its blocks", "in place"])
def test_compiled_models_are_pruned(compiled: str) -> None:
    """R21"""
    model, x = three(Plain), vectors()
    if compiled == "the model":
        outer = torch.compile(model, backend="eager")
    elif compiled == "its blocks":
        outer = model
        for place, block in enumerate(list(model.blocks)):
            model.blocks[place] = torch.compile(block, backend="eager")
    else:
        model.compile(backend="eager")
        outer = model
    pruner = a_pruner(outer, x)
    train(pruner, x)
    pruner.finish()
    assert len(pruner.removed) == 2
    torch.testing.assert_close(pruner.export().eval()(x), model.eval()(x))


def test_several_optimizers_lose_what_goes() -> None:
    """R23"""
    model, x = three(Plain), vectors()
    matrices = [each for each in model.parameters() if each.dim() == 2]
    rest = [each for each in model.parameters() if each.dim() != 2]
    optimizers = [torch.optim.Adam(matrices, lr=0.01), torch.optim.RMSprop(rest, lr=0.01)]
    pruner = a_pruner(model, x, optimizers)
    train(pruner, x)
    pruner.finish()
    held = {id(each) for one in optimizers for group in one.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}
    with pytest.raises(LayerpruneError, match="give a list of all optimizers"):
        other = three(Plain)
        a_pruner(other, x, torch.optim.SGD(other.blocks[0].parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("R11 tables and masks", method) for method in ("magnitude", "random")),
        *(("R17 encoder", method) for method in ("magnitude", "last-k")),
        ("R07 windows", "magnitude"),
        ("in a function", "magnitude"),
    ],
)
def test_every_kind_is_scored(kind: str, method: str) -> None:
    """R26"""
    model, example = KINDS[kind][1]()
    sections = find_sections(model, example)
    small = prune_by_scores(model, sections, method, keep=1)
    assert len(find_sections(small, example).removable) == 1


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv3d])
def test_convolutions_of_other_dimensions_are_scored(layer: type) -> None:
    model = three(Plain, lambda: nn.Sequential(layer(WIDTH, WIDTH, 3, padding=1), nn.ReLU()))
    x = torch.randn(2, WIDTH, *[4] * (1 if layer is nn.Conv1d else 3))
    small = prune_by_scores(model, find_sections(model, x), "magnitude", keep=1)
    assert len(find_sections(small, x)) == 1


def test_counts_of_batches_are_as_they_were() -> None:
    model = three(Plain, lambda: nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH)))
    model.train()(vectors())
    before = copy.deepcopy(model.state_dict())
    find_sections(model, vectors())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


HALF = ["R01 a small sum within", "R12 stochastic depth", "R19 functions of the mode", "differences", "lists", "halves"]


@pytest.mark.parametrize("kind", [*HALF, "in a function", "alpha", "operator", "frozen norm"])
def test_torch_fx_traces_what_is_left_where_it_traces_the_whole(kind: str) -> None:
    model, (x,) = KINDS[kind][1]()
    names = [each.name for each in find_sections(model.eval(), x).removable]
    torch.fx.symbolic_trace(model)
    layerprune.remove(model, names[::2], x)
    traced = torch.fx.symbolic_trace(model.eval())
    assert torch.equal(traced(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(traced))(x), model(x))


def test_a_gate_closes_all_places_of_its_example_and_no_other() -> None:
    model, (x,) = KINDS["axis: several places of each"][1]()
    forward = Forward(find_sections(model.eval(), x))
    opened = model(x)
    forward.install()
    forward.values[:] = [torch.tensor([[1.0], [0.0], [1.0]])] * 3
    assert torch.equal(model(x), torch.stack([opened[0], x[1], opened[2]]))


def test_examples_that_cannot_be_told_apart_are_a_reason_to_stay() -> None:
    sections = find_sections(three(kinds.FlattenedAcross), kinds.tokens())
    assert {each.reason for each in sections} == {"examples cannot be told apart in what it adds"}


# --- training loops ---------------------------------------------------------------------------------------------


class Half(nn.Module):
    """One of two sums may go without the other, whose code asks for sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.first(x)
        count, _ = branch.shape
        return self._rest(x + branch.view(count, WIDTH))

    def _rest(self, x: Tensor) -> Tensor:
        branch = self.second(x)
        return x + torch.tanh(branch).reshape(*branch.shape)


def test_every_second_section_may_go_where_all_may() -> None:
    model, x = Chain(Half(), Half()), vectors()
    for some in (0, 1):
        other = copy.deepcopy(model)
        names = [each.name for each in find_sections(other, x).removable][some::2]
        assert len(names) == 2
        layerprune.remove(other, names, x)
        assert other(x).shape == x.shape


def test_a_part_in_torchscript_is_left_alone() -> None:
    model, x = Chain(torch.jit.trace(mlp(), vectors()), Plain(mlp()), Plain(mlp())), vectors()
    expected = model(x)
    assert len(find_sections(model, x).removable) == 2
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("make", [scripted, lambda: torch.jit.trace(mlp(), vectors())], ids=["scripted", "traced"])
def test_a_section_may_hold_a_part_in_torchscript(make: Callable) -> None:
    model, x = three(Plain, lambda: nn.Sequential(make(), nn.Linear(WIDTH, WIDTH))), vectors()
    pruner = a_pruner(model, x)
    train(pruner, x)
    pruner.finish()
    plain = pruner.export().eval()
    assert len(pruner.removed) == 2 and len(list(plain.parameters())) == len(list(make().parameters())) + 2
    assert torch.equal(plain(x), model.eval()(x))


@pytest.mark.parametrize("way", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_layers_whose_weights_are_computed_may_go_and_be_copied(way: Callable) -> None:
    model, x = three(Plain, lambda: way(nn.Linear(WIDTH, WIDTH))), vectors()
    pruner = a_pruner(model, x)
    train(pruner, x)
    pruner.finish()
    assert len(pruner.removed) == 2
    assert tensors_of(pruner.export()(x))


def test_replicas_of_data_parallel_are_refused() -> None:
    model = three(Plain)
    a_pruner(model, vectors())
    with pytest.raises(LayerpruneError, match=r"nn.DataParallel .* use DistributedDataParallel"):
        model.train()._replicate_for_data_parallel()(vectors())


def test_a_transform_of_torch_func_is_refused_as_gates_get_no_gradients_there() -> None:
    model, x = three(Plain), vectors()
    a_pruner(model, x).model.train()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (x,)).square().mean()

    with pytest.raises(LayerpruneError, match=r"torch.func transforms gates get no gradients: call backward\(\)"):
        torch.func.grad(loss)(dict(model.named_parameters()))


def _scaled(model: nn.Module, pruner: ConcurrentPruner, x: Tensor) -> None:
    scaler = pruner._scaler
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(pruner.optimizer)
    scaler.update()


def _twice(model: nn.Module, pruner: ConcurrentPruner, x: Tensor) -> None:
    (model(x) - model(x.flip(0))).square().mean().backward()
    pruner.optimizer.step()


def _functional(model: nn.Module, pruner: ConcurrentPruner, x: Tensor) -> None:
    torch.func.functional_call(model, dict(model.named_parameters()), (x,)).square().mean().backward()
    pruner.optimizer.step()


def _penalised(model: nn.Module, pruner: ConcurrentPruner, x: Tensor) -> None:
    x = x.clone().requires_grad_()
    output = model(x)
    (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    (output.square().mean() + slope.square().mean()).backward()
    pruner.optimizer.step()


LOOPS: dict[str, tuple[Callable, Callable, dict[str, Any]]] = {
    "mixed precision": (_scaled, torch.optim.SGD, {"scaler": torch.amp.GradScaler("cpu")}),
    "two passes a loss": (_twice, torch.optim.SGD, {}),
    "weights as arguments": (_functional, torch.optim.SGD, {}),
    "a penalty on slopes": (_penalised, torch.optim.AdamW, {}),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_training_loop_is_followed_to_its_end(loop: str) -> None:
    step, make, options = LOOPS[loop]
    model, x = three(Dropping), vectors()
    pruner = a_pruner(model, x, make(model.parameters(), lr=0.01), **options)
    for _ in range(STEPS):
        step(model.train(), pruner, x)
        pruner.optimizer.zero_grad()
        pruner.step()
    pruner.finish()
    assert len(pruner.removed) == 2
    assert torch.equal(pruner.export().eval()(x), model.eval()(x))
