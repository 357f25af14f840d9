"""Habits of other people's networks: hooks that register themselves, numbers of layers, shapes asked for in training,
blocks within blocks, frames folded into the batch, parts that nobody trains."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library.absence import Zeros
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.gates import Gate, Gates, Gateway
from layerprune.library.memory import peak_memory
from layerprune.library.recording import record
from layerprune.library.rewriting import Forward

WIDTH = 8
X = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4) % 3


class Net(nn.Module):
    """Blocks in a row, and a head."""

    def __init__(self, block: Callable[[int], nn.Module], count: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.head = nn.ModuleList(block(place) for place in range(count)), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Plain(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x))


def train(model: nn.Module, steps: int = 12, **settings: Any) -> ConcurrentPruner:
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.01)
    given = {"check_interval": 1, "warmup_steps": 1} | (settings or {"nu": 0.01})
    pruner = ConcurrentPruner(model, find_sections(model, X), optimizer, total_steps=steps, **given)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), LABELS).backward()
        optimizer.step()
        pruner.step()
    return pruner


# --- the model stays as it is -------------------------------------------------------------------------------------


class Capturing(Net):
    """Puts hooks on its blocks once, when it is used first, as models of Transformers do that return hidden states."""

    installed = False

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        if not self.installed:
            self.installed = True
            for block in self.blocks:
                block.register_forward_hook(lambda *_: self.seen.append(1))
        self.seen: list[int] = []
        return super().forward(x), len(self.seen)


def test_hooks_that_a_model_registers_itself_are_not_left_behind() -> None:
    model = Capturing(Plain)
    find_sections(model, X)
    find_sections(model, X)
    assert [model(X)[1] for _ in range(2)] == [3, 3]


# --- numbers of layers ----------------------------------------------------------------------------------------------


class Numbered(Plain):
    """Every second one looks at what is shifted by one."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.inner = Shift(place)


class Shift(nn.Linear):
    def __init__(self, place: int) -> None:
        super().__init__(WIDTH, WIDTH)
        self.layer_idx = place

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.roll(self.layer_idx % 2, 1))


@pytest.mark.parametrize("gone", [0, 1])
def test_numbers_of_layers_stay_in_a_model_without_a_cache(gone: int) -> None:
    model = Net(Numbered).eval()
    smaller = layerprune.remove(copy.deepcopy(model), [f"blocks.{gone}.inner"], X)
    nn.init.zeros_(model.blocks[gone].inner.weight), nn.init.zeros_(model.blocks[gone].inner.bias)
    torch.testing.assert_close(smaller(X), model(X))


# --- shapes that are asked for in training -------------------------------------------------------------------------


def drop_path(x: Tensor, training: bool) -> Tensor:
    if not training:
        return x
    keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1)) < 0.9
    return x * keep / 0.9


class Dropping(nn.Module):
    """Two branches; one of them scaled by a weight of the block's own."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.one, self.other = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2))
        self.scale = nn.Parameter(torch.full((WIDTH,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = x + drop_path(self.scale * self.one(x), self.training)
        return x + drop_path(self.other(x), self.training)


def test_what_asks_for_shapes_in_training_alone_trains_without_some_of_its_branches() -> None:
    model = Net(Dropping)
    assert len(find_sections(model, X).removable) == 6
    assert train(model, target_depth=4).removed


def copies(model: nn.Module, path: Path) -> list[nn.Module]:
    layerprune.save(model, path / "smaller.safetensors")
    packed = io.BytesIO()
    torch.save(model, packed)
    packed.seek(0)
    return [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(packed, weights_only=False),
        layerprune.load(path / "smaller.safetensors", into=Net(Dropping)),
    ]


def test_copies_and_files_of_it_train_on(tmp_path: Path) -> None:
    model = Net(Dropping)
    names = [each.name for each in find_sections(model, X)][::2]
    layerprune.remove(model, names, X)
    for each in [model, *copies(model, tmp_path)]:
        F.cross_entropy(each.train()(X), LABELS).backward()
        torch.testing.assert_close(each.eval()(X), model.eval()(X))


class Asking(Plain):
    """In training its code needs numbers of the branch."""

    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(self.inner(x))
        if self.training:
            out = out * (1 + 0 * float(out.detach().abs().max()))
        return x + out * 1


def test_what_cannot_be_trained_without_a_section_keeps_it_and_says_why() -> None:
    model = Net(lambda place: Asking() if place == 1 else Plain())
    (kept,) = (each for each in find_sections(model, X) if not each.removable)
    assert kept.name == "blocks.1.inner" and kept.reason.startswith("the model does not train without it: ")
    smaller = copy.deepcopy(model)
    layerprune.remove(smaller, [each.name for each in find_sections(model, X).removable], X)
    F.cross_entropy(smaller.train()(X), LABELS).backward()


# --- blocks within blocks -------------------------------------------------------------------------------------------


class Outer(nn.Module):
    def __init__(self, place: int, weight: int = 1) -> None:
        super().__init__()
        self.up, self.down = (nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(weight))) for _ in range(2))
        self.within = nn.ModuleList(Plain() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.up(x))
        for each in self.within:
            out = each(out)
        return x + self.down(out)


@pytest.mark.parametrize("weight", [1, 4])
@pytest.mark.parametrize("granularity", ["section", "layer", "any"])
def test_no_section_that_may_go_is_within_another(granularity: Any, weight: int) -> None:
    model = Net(lambda place: Outer(place, weight))
    found = find_sections(model, X, granularity)
    assert found.removable and sum(each.macs for each in found.removable) <= found.macs
    owned = [name for each in found.removable for name in each.owned]
    assert not [one for one in owned for other in owned if one.startswith(f"{other}.")]


@pytest.mark.parametrize("weight", [1, 4])
def test_sections_within_one_that_goes_are_counted_as_gone(weight: int) -> None:
    model = Net(lambda place: Outer(place, weight))
    found = find_sections(model, X)
    assert len(found.left_without([])) == len(found) > 3
    first = found.removable[0].name
    smaller = layerprune.remove(copy.deepcopy(model), [first], X)
    assert len(found.left_without([first])) == len(find_sections(smaller, X)) < len(found)


class Counting(Net):
    """Its own code looks into the outer blocks, which so cannot do without them."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) * (len(block.within) / 2)
        return self.head(x)


def test_blocks_within_one_that_cannot_go_may_go() -> None:
    found = find_sections(Counting(Outer), X, "layer")
    assert [each.name for each in found.removable] == [f"blocks.{a}.within.{b}" for a in range(3) for b in range(2)]
    assert all("does not run without it" in each.reason for each in found if not each.removable)


# --- whose is whose -------------------------------------------------------------------------------------------------


class Frames(Net):
    """Frames are folded into the batch; branches begin at zero."""

    def __init__(self) -> None:
        super().__init__(Plain)
        for block in self.blocks:
            nn.init.zeros_(block.inner.weight), nn.init.zeros_(block.inner.bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, WIDTH]
        return super().forward(x.flatten(0, 1)).view(*x.shape[:2], -1).mean(1)


def test_branches_that_begin_at_zero_can_be_told_apart() -> None:
    model = Frames()
    before = copy.deepcopy(model.state_dict())
    assert len(find_sections(model, torch.randn(2, 3, WIDTH)).removable) == 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Packed(Net):
    """Rows of texts one after the other, [B, T, WIDTH] with marks of which are there."""

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        rows = super().forward(x[there])
        counts = there.sum(1).tolist()
        return torch.stack([each.mean(0) for each in rows.split(counts)])


def test_rows_without_padding_are_not_shared_out_because_the_example_has_none() -> None:
    sections = find_sections(Packed(Plain), (torch.randn(4, 6, WIDTH), torch.ones(4, 6, dtype=torch.bool)))
    assert not sections.removable
    assert all("how many rows it has of an example" in each.reason for each in sections), str(sections)


# --- what nobody trains ---------------------------------------------------------------------------------------------


class Probe(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.backbone, self.top = way, Net(Plain).blocks, Net(Plain, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.way != "no_grad" and torch.is_grad_enabled()):
            for block in self.backbone:
                x = block(x)
        return self.top(x.detach() if self.way == "detach" else x)


@pytest.mark.parametrize(("way", "warned"), [("no_grad", True), ("detach", True), ("trained", False)])
def test_parts_that_get_no_gradient_are_said_to_go(way: str, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(Probe(way), steps=4)
    told = [str(each.message) for each in caught if "no gradient in the first pass" in str(each.message)]
    assert len(told) == warned and all("section 'backbone.0.inner' and 2 more" in each for each in told)


# --- wrong kinds of arguments ---------------------------------------------------------------------------------------


def within_inference_mode() -> None:
    with torch.inference_mode():
        find_sections(Net(Plain), X)


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tuple to save": (lambda path: layerprune.save(Net(Plain), path / "x.pt2", (X, X)), "one tensor .*, not tuple"),
    "a tuple to onnx": (lambda path: layerprune.save(Net(Plain), path / "x.onnx", (X,)), "one tensor .*, not tuple"),
    "weights alone": (
        lambda path: layerprune.save(Net(Plain).state_dict(), path / "x.safetensors"),
        "save: module is the model itself, not OrderedDict",
    ),
    "into a class": (lambda path: layerprune.load(path / "x.safetensors", into=Net), "load: into is a whole model"),
    "no model": (lambda path: layerprune.load(path / "x.safetensors"), r"load\(path, into=model\) reads them"),
    "no names": (lambda path: layerprune.remove(Net(Plain), None, X), "remove: names are a list .*, not None"),
    "one name": (lambda path: layerprune.remove(Net(Plain), "blocks.0", X), "names are a list .*, not 'blocks.0'"),
    "an array": (lambda path: find_sections(Net(Plain), X.numpy()), r"example input is a tensor .*, not ndarray"),
    "inference mode": (lambda path: within_inference_mode(), "find_sections: torch.inference_mode shows no operations"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_kind_of_argument_is_one_line(name: str, tmp_path: Path) -> None:
    mistake, told = MISTAKES[name]
    with pytest.raises(LayerpruneError, match=told) as caught:
        mistake(tmp_path)
    assert "\n" not in str(caught.value)


# --- which argument is handed on --------------------------------------------------------------------------------------


class OfStates(nn.Module):
    """Takes a dictionary of states, changes one, and hands all on in the order in which it got them."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: each + torch.tanh(self.inner(each)) if name == "x" else each for name, each in states.items()}


class Masked(nn.Module):
    """An optional argument stands before the input."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, mask: Tensor | None, x: Tensor) -> Tensor:
        branch = torch.tanh(self.inner(x))
        return x + (branch if mask is None else branch * mask)


class Dictionaries(Net):
    def __init__(self) -> None:
        super().__init__(OfStates)

    def forward(self, x: Tensor, y: Tensor, first: str = "x") -> Tensor:
        states = {"x": x, "y": y} if first == "x" else {"y": y, "x": x}
        for block in self.blocks:
            states = block(states)
        return self.head(states["x"] + 0.5 * states["y"])


class OptionalMasks(Net):
    def __init__(self) -> None:
        super().__init__(Masked)

    def forward(self, x: Tensor, y: Tensor, first: str = "x") -> Tensor:
        for block in self.blocks:
            x = block(None, x) if first == "x" else block(y, x=x)
        return self.head(x)


@pytest.mark.parametrize("granularity", ["section", "layer"])
@pytest.mark.parametrize("network", [Dictionaries, OptionalMasks])
def test_hands_on_the_same_argument_however_it_is_called(network: type[Net], granularity: str, tmp_path: Path) -> None:
    model, y = network(), torch.rand(4, WIDTH, generator=torch.Generator().manual_seed(1))
    alone = copy.deepcopy(model)
    second = [each.name for each in find_sections(model, (X, y), granularity)][1]
    smaller = layerprune.remove(copy.deepcopy(model), [second], (X, y), granularity=granularity)
    nn.init.zeros_(alone.blocks[1].inner.weight)
    nn.init.zeros_(alone.blocks[1].inner.bias)
    layerprune.save(smaller, tmp_path / "smaller.safetensors")
    loaded = layerprune.load(tmp_path / "smaller.safetensors", into=network())
    for each in (smaller, loaded, pickle.loads(pickle.dumps(smaller)), copy.deepcopy(smaller)):
        for first in ("x", "y"):
            torch.testing.assert_close(each(X, y, first), alone(X, y, first))


@pytest.mark.parametrize("network", [Dictionaries, OptionalMasks])
def test_a_closed_layer_hands_on_the_same_argument_however_it_is_called(network: type[Net]) -> None:
    model, y = network(), torch.rand(4, WIDTH, generator=torch.Generator().manual_seed(1))
    alone = copy.deepcopy(model)
    for block in alone.blocks:
        nn.init.zeros_(block.inner.weight)
        nn.init.zeros_(block.inner.bias)
    sections = find_sections(model, (X, y), granularity="layer")
    forward = Forward(sections)
    forward.install()
    forward.values[:] = [torch.zeros(1, 1)] * 3
    for first in ("x", "y"):
        torch.testing.assert_close(model(X, y, first), alone(X, y, first))


def test_says_which_argument_a_call_lacks() -> None:
    model, y = OptionalMasks(), torch.rand(4, WIDTH)
    smaller = layerprune.remove(model, ["blocks.1"], (X, y), granularity="layer")
    with pytest.raises(LayerpruneError, match="hands on its argument 'x'"):
        smaller.blocks[1](y)


# --- what only training does ------------------------------------------------------------------------------------------


class Reversed(torch.autograd.Function):
    """Couples two halves, and computes the first halves again from the last ones in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: nn.ModuleList) -> Tensor:
        left, right = x.chunk(2, 1)
        for block in blocks:
            right = right + block(left)
            left, right = right, left
        ctx.blocks = blocks
        ctx.save_for_backward(left, right)
        return torch.cat([left, right], 1)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple:
        (left, right), (of_left, of_right) = ctx.saved_tensors, slope.chunk(2, 1)
        for block in reversed(ctx.blocks):
            left, right, of_left, of_right = right, left, of_right, of_left
            with torch.enable_grad():
                given = left.detach().requires_grad_()
                added = block(given)
                added.backward(of_right)
            right, of_left = right - added.detach(), of_left + given.grad
        return torch.cat([of_left, of_right], 1), None


class Reversible(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Reversed.apply(self.first(x), self.blocks))


def test_sections_whose_backward_pass_is_written_by_hand_may_not_go() -> None:
    model = Reversible()
    before = {name: each.grad for name, each in model.named_parameters()}
    sections = find_sections(model, X)
    assert len(sections) == 3 and not sections.removable
    assert all("does not train without it" in each.reason for each in sections), str(sections)
    assert {name: each.grad for name, each in model.named_parameters()} == before


class LayerDrop(Net):
    """Leaves blocks out at random in training."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or torch.rand(()) > 0.3:
                x = block(x)
        return self.head(x)


def test_layers_left_out_at_random_in_training_are_found_whatever_the_seed() -> None:
    model = LayerDrop(Plain, 6)
    for seed in range(5):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        assert len(find_sections(model, X).removable) == 6
        assert torch.equal(torch.get_rng_state(), state)


class Texts(Net):
    """Of each text its length, and the rows of all texts one after the other."""

    def forward(self, lengths: Tensor, rows: Tensor) -> Tensor:
        for block in self.blocks:
            rows = block(rows)
        return self.head(torch.stack([each.mean(0) for each in rows.split(lengths.tolist())]))


def test_packed_rows_are_one_line() -> None:
    model, example = Texts(Plain), (torch.full((4,), 3), torch.randn(12, WIDTH))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sections = find_sections(model, example)
    pruner = ConcurrentPruner(model, sections, optimizer, total_steps=4, nu=0.01, check_interval=1, warmup_steps=0)
    with pytest.raises(LayerpruneError, match="adds 12 rows for 4 examples"):
        for _ in range(4):
            F.cross_entropy(model(*example), LABELS).backward()
            pruner.step()


# --- odd signatures, odd trees ----------------------------------------------------------------------------------------


def gated(model: nn.Module, example: Any, granularity: str, values: list[Tensor]) -> None:
    forward = Forward(find_sections(model, example, granularity))
    forward.install()
    forward.values[:] = values


Tree = Callable[[Tensor, bool], Any]
"""Of what a branch adds, and whether it is in training."""
TREES: dict[str, Tree] = {
    "more in training": lambda out, training: (out, out.mean()) if training else out,
    "another in training": lambda out, training: {"mean": out.mean(), "out": out} if training else (out.mean(), out),
    # Where the way of evaluation leads in training there is a row of it.
    "deeper in evaluation": lambda out, training: (out, out.mean()) if training else ((out, out.mean()),),
}


class PutsTree(nn.Module):
    """A branch whose output is in a tree."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.inner, self.tree = nn.Linear(WIDTH, WIDTH), tree

    def forward(self, x: Tensor) -> Any:
        return self.tree(torch.tanh(self.inner(x)), self.training)


class TakesTree(Net):
    """Adds what its branches put out, wherever it is, if it is anywhere."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(lambda place: PutsTree(tree))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            leaves = [each for each in pytree.tree_leaves(block(x)) if each is not None]
            x = x + next((each for each in leaves if each.dim() > 1), 0)
        return self.head(x)


@pytest.mark.parametrize("how", TREES)
def test_a_branch_is_gated_in_evaluation_and_in_training_whatever_its_trees(how: str) -> None:
    model = TakesTree(TREES[how])
    gated(model, X, "section", [torch.zeros(1, 1)] * 3)
    for training in (False, True):
        torch.testing.assert_close(model.train(training)(X), model.head(X))


def test_an_output_of_another_tree_than_the_examples_is_one_line() -> None:
    model, whole = (TakesTree(TREES["another in training"]) for _ in range(2))
    whole.load_state_dict(model.state_dict())
    gated(model, X, "section", [torch.zeros(1, 1)] * 3)
    for each in (model, whole):
        each.blocks[1].tree = lambda out, training: {"first": (out.mean(), out)}
    with pytest.raises(LayerpruneError, match=r"puts out a tensor, at \[1\] or at \['out'\], as the example has it"):
        model(X)
    assert torch.equal(copy.deepcopy(model)(X), whole(X))  # a copy's gates are open for good


@pytest.mark.parametrize(
    "tree",
    [lambda out: [None, out], lambda out: (None, None), lambda out: None],
    ids=["in a list", "nothing in a tuple", "nothing"],
)
def test_the_only_tensor_is_gated_in_any_tree_and_where_none_is_there_is_nothing_to_gate(tree: Callable) -> None:
    model = TakesTree(lambda out, training: {"out": out})
    gated(model, X, "section", [torch.zeros(1, 1)] * 3)
    for block in model.blocks:
        block.tree = lambda out, training: tree(out)
    torch.testing.assert_close(model(X), model.head(X))


class PositionOnly(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, /, **named: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x)) * named["x"]


class AnyArguments(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, *args: Tensor, **named: Tensor) -> Tensor:
        x = args[0] if args else named["x"]
        return x + torch.tanh(self.inner(x))


class MaskFirst(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, mask: Tensor, x: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x)) * mask


class Rows(list):
    """A list to Python; to torch's trees a leaf."""


class TakesRows(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return x + torch.tanh(self.inner(x)) * rows[0]


CALLS = {
    "position only": (PositionOnly, lambda block, x, y: block(x, x=y)),
    "any arguments": (AnyArguments, lambda block, x, y: block(x)),
    "a mask first": (MaskFirst, lambda block, x, y: block(y, x)),
    "a list of another class": (TakesRows, lambda block, x, y: block(x, Rows([y]))),
}


class Called(Net):
    def __init__(self, kind: str) -> None:
        block, self.called = CALLS[kind]
        super().__init__(block)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.called(block, x, y)
        return self.head(x)


@pytest.mark.parametrize("kind", CALLS)
def test_layers_hand_on_their_input_whatever_their_signature(kind: str) -> None:
    torch.manual_seed(0)
    example = (X, torch.rand(4, WIDTH))
    model = Called(kind)
    smaller = layerprune.remove(copy.deepcopy(model), ["blocks.0", "blocks.2"], example, granularity="layer")
    gated(model, example, "layer", [torch.zeros(1, 1), None, torch.zeros(1, 1)])
    alone = model.called(Called(kind).blocks[1], X, example[1])
    for training in (False, True):
        torch.testing.assert_close(model.train(training)(*example), model.head(alone))
        torch.testing.assert_close(smaller.train(training)(*example), model.head(alone))


def test_the_only_tensor_is_handed_on_by_whatever_name() -> None:
    model = Called("any arguments")
    smaller = layerprune.remove(model, ["blocks.0"], (X, X), granularity="layer")
    assert torch.equal(smaller.blocks[0](x=X), X)
    with pytest.raises(LayerpruneError, match="hands on its argument number 1"):
        smaller.blocks[0](x=X, y=X)


class LoopDrop(Net):
    """Additions in the loop, some of which are left out in training."""

    def __init__(self, share: float) -> None:
        super().__init__(lambda place: nn.Linear(WIDTH, WIDTH))
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or torch.rand(()) >= self.share:
                x = x + torch.tanh(block(x))
        return self.head(x)


def test_a_gate_that_only_its_turn_tells_is_refused_where_turns_are_left_out() -> None:
    assert len(find_sections(LoopDrop(0.0), X).removable) == 3
    with_layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), LoopDrop(0.0))
    assert len(find_sections(with_layers, X, "any").removable) == 4
    sections = find_sections(LoopDrop(0.2), X)
    assert not sections.removable and "left out at random" in sections[0].reason


class Chosen(Net):
    """Frames in the batch; something else is chosen by its contents, or these by what is no input."""

    def __init__(self, how: str) -> None:
        super().__init__(Plain)
        self.how, self.experts = how, nn.Linear(WIDTH, WIDTH)
        self.register_buffer("kept", torch.tensor([True, True, False]))

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, WIDTH]
        x = x[:, self.kept] if self.how == "a buffer" else x
        rows = x.flatten(0, 1)
        if self.how == "a mean":
            rows = rows - rows[rows.abs() < 3].mean()
        if self.how == "experts":
            chosen = (rows[:, 0] > 0).nonzero().flatten()
            rows = rows + torch.zeros_like(rows).index_add(0, chosen, self.experts(rows[chosen]))
        for block in self.blocks:
            rows = block(rows)
        return self.head(rows.view(*x.shape[:2], -1).mean(1))


@pytest.mark.parametrize("how", ["a buffer", "a mean", "experts"])
def test_rows_that_are_all_there_are_shared_out(how: str) -> None:
    torch.manual_seed(0)
    names = [each.name for each in find_sections(Chosen(how), torch.randn(4, 3, WIDTH)).removable]
    assert {f"blocks.{place}.inner" for place in range(3)} <= set(names)


def test_pickles_of_before_hold_numbers_of_tensors() -> None:
    zeros = pickle.loads(pickle.dumps(Zeros(1, (-1, 2))))
    assert zeros.given.of((X, X[:1]), {}).shape == X[:1].shape
    gate = pickle.loads(pickle.dumps(Gate(Gates(), 0, Gateway("", 0, leaf=1, given=0))))
    assert gate.given.of((X,), {}) is X and gate.leaf.of((0, X)) is X


# --- inherited code, modules of two names, code that takes no hooks, shapes of what has gone -------------------------


class Doubled(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Helped(nn.Module):
    """Adds in a method of an object that is no module."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.inner, self.helper = nn.Linear(WIDTH, WIDTH), Adder()

    def forward(self, x: Tensor) -> Tensor:
        return self.helper.added(x, torch.tanh(self.inner(x)))


class Adder:
    def added(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ScriptedEnd(nn.Module):
    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.last = torch.jit.script(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.first(x))


class TwoNames(Net):
    """The usual extractor of features: parts of another network, registered once more."""

    def __init__(self, block: Callable[[int], nn.Module] = Plain) -> None:
        super().__init__(block)
        self.body = nn.Sequential(*self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Parallel(nn.Module):
    """Branches beside each other, each added to the sum of the ones before."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.norm, self.first, self.second, self.third = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        out = torch.tanh(self.third(x)) + (x + self.first(hidden))
        return out + torch.tanh(self.second(hidden))


def test_each_of_parallel_branches_may_go() -> None:
    model = Net(Parallel, count=1)
    found, block = find_sections(model, X), model.blocks[0]
    parts = [block.first(block.norm(X)), torch.tanh(block.third(X)), torch.tanh(block.second(block.norm(X)))]
    assert [each.removable for each in found] == [True] * 3, str(found)
    for gone in ([0], [1], [2], [0, 2], [0, 1, 2]):
        left = layerprune.remove(copy.deepcopy(model), [found[place].name for place in gone], X)
        by_hand = X + sum(part for place, part in enumerate(parts) if place not in gone)
        assert torch.allclose(left(X), model.head(by_hand), atol=1e-6)
    pruner = train(model, target_depth=1, theta_lr=1.0, warmup_steps=1)
    assert len(pruner.removed) == 2
    assert torch.allclose(pruner.export()(X), model.eval()(X), atol=1e-6)


class Transposed(Plain):
    """Takes attributes of tensors that are tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x)).mT.T


class OwnWeight(nn.Module):
    """A branch without a layer."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(WIDTH) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(x @ self.weight)


@pytest.mark.parametrize(
    "made",
    [*(partial(Net, block) for block in (Doubled, Helped, ScriptedEnd, Transposed, OwnWeight)), TwoNames],
    ids=["inherited forward", "helper object", "TorchScript at the end", "attributes", "no layer", "two names"],
)
@pytest.mark.parametrize("granularity", ["section", "any"])
def test_sections_go_whoever_adds_and_whatever_they_are_called(made: Callable[[], Net], granularity: Any) -> None:
    model = made()
    found = find_sections(model, X, granularity)
    assert [each.removable for each in found] == [True] * 3, str(found)
    weights = sum(each.numel() for each in model.parameters())
    smaller = layerprune.remove(copy.deepcopy(model), [found[1].name], X, granularity)
    pruner = train(model, nu=10.0) if granularity == "section" else None
    with torch.no_grad():
        by_hand = made()
        by_hand.blocks = nn.ModuleList([by_hand.blocks[0], by_hand.blocks[2]])
        by_hand.body = nn.Sequential(*by_hand.blocks)
        factor = 2 if isinstance(by_hand.blocks[0], Doubled) else 1
        hidden = by_hand.blocks[1](factor * by_hand.blocks[0](X))
        assert torch.allclose(smaller(X), by_hand.head(hidden), atol=1e-6)
    assert sum(each.numel() for each in smaller.parameters()) == weights - found[1].params
    if pruner is not None:
        assert pruner.removed
        assert torch.allclose(pruner.export()(X), model.eval()(X), atol=1e-6)


class AsksForSizes(nn.Module):
    """Attention in its own code, which asks for the size of what a removed section would have computed."""

    def __init__(self, place: int = 0) -> None:
        super().__init__()
        self.norm, self.queries, self.values = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        queries, values = self.queries(hidden), self.values(hidden)
        batch, time, width = queries.size()
        heads = queries.view(batch, time, 2, width // 2).transpose(1, 2)
        mixed = (heads @ heads.mT).softmax(-1) @ values.view(batch, time, 2, width // 2).transpose(1, 2)
        return x + mixed.transpose(1, 2).reshape(batch, time, width)


def test_what_has_gone_costs_nothing() -> None:
    model, x = Net(AsksForSizes), torch.randn(4, 16, WIDTH, generator=torch.Generator().manual_seed(0))
    found = find_sections(model, x)
    smaller = layerprune.remove(copy.deepcopy(model), [each.name for each in found], x)
    whole, head = peak_memory(model, x), nn.Sequential(nn.Linear(WIDTH, 3))
    assert record(smaller, x).macs == 4 * 16 * WIDTH * 3
    assert peak_memory(smaller, x) == peak_memory(head, x) < whole
