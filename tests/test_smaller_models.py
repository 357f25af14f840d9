"""Smaller models come back into whole ones, to be trained on; a file of another model changes nothing."""

import copy
import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors
import safetensors.torch
import torch
import torch.fx
import torchvision
from feature_networks import WAYS, Features
from torch import Tensor, nn

import layerprune
from layerprune.errors import LayerpruneError

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def made(*ways: str) -> nn.Module:
    return Features(ways).eval()


@pytest.mark.parametrize("way", WAYS)
def test_a_smaller_model_is_read_into_a_whole_one_and_trained_on(way: str, tmp_path: Path) -> None:
    model = made(way, "module", way)
    names = [each.name for each in layerprune.find_sections(model, X)]
    small = layerprune.remove(model, names[1:], X)
    layerprune.save(small, tmp_path / "small.safetensors")
    back = layerprune.load(tmp_path / "small.safetensors", into=made(way, "module", way))
    assert torch.equal(back(X), small(X)) and back.state_dict().keys() == small.state_dict().keys()
    back.train()(X).sum().backward()
    assert [each.name for each in layerprune.find_sections(back, X).removable] == names[:1]


def test_blocks_that_hand_on_come_back(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = torchvision.models.resnet18(num_classes=5).eval()
    small = layerprune.remove(model, ["layer1.0", "layer2.0", "layer4.1"], x)
    layerprune.save(small, tmp_path / "small.safetensors")
    back = layerprune.load(tmp_path / "small.safetensors", into=torchvision.models.resnet18(num_classes=5).eval())
    assert torch.equal(back(x), small(x)) and str(back) == str(small)


def test_a_model_whose_blocks_went_whole_can_be_traced_by_torch_fx() -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = torchvision.models.resnet18(num_classes=5).eval()
    small = layerprune.remove(model, ["layer1.0", "layer1.1", "layer4.1"], x)
    assert torch.equal(torch.fx.symbolic_trace(small)(x), small(x))


def test_a_file_of_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path, other = tmp_path / "small.safetensors", nn.Linear(4, 3)
    layerprune.save(layerprune.remove(made("module", "module"), ["blocks.0"], X), path)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(LayerpruneError, match="belongs to another model than Linear"):
        layerprune.load(path, into=other)
    assert str(before) == str(other.state_dict())
    path.write_bytes(b"nothing")
    with pytest.raises(LayerpruneError, match="not a model that"):
        layerprune.load(path, into=other)


NESTED = '{"type": null, "context": null, "children_spec": []}'
ENUM = '{"__enum__": true, "fqn": "canary:x", "name": "x"}'
HOSTILE = {
    "a module to import": {"layout": '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": '
    '"canary", "default_factory_name": "x", "dict_context": []}, "children_spec": []}]'},
    "a member of an enumeration to import": {"layout": '[1, {"type": "builtins.dict", "context": '
    + json.dumps(f"[{ENUM}]") + ', "children_spec": [' + NESTED + "]}]", "leaves": [None]},
    "an enumeration to import": {"layout": '[1, {"type": "builtins.dict", "context": ' + json.dumps(ENUM)
    + ', "children_spec": []}]', "leaves": []},
    "trees without end": {"layout": '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [' * 3000},
    "deep trees": {"layout": "[1, " + '{"type": "builtins.tuple", "context": "null", "children_spec": [' * 2000
    + NESTED + "]}" * 2000 + "]"},
    "a leaf with a context": {"layout": '[1, {"type": null, "context": "null", "children_spec": []}]'},
    "a leaf with leaves": {"layout": '[1, {"type": null, "context": null, "children_spec": [' + NESTED + "]}]"},
    "a number for a layout": {"layout": 3},
    "an empty layout": {"layout": "[]"},
    "leaves that are no list": {"leaves": 7},
    "a leaf of another kind": {"leaves": [{"input": "x"}]},
    "zeros of no numbers": {"leaves": [{"zeros": 0, "sizes": ["x", -1]}]},
    "zeros without a size": {"leaves": [{"zeros": 0, "sizes": [-1, -1]}]},
    "too many leaves": {"leaves": [{"input": 0}] * 50},
    "a path that is a list": {"path": ["blocks"]},
    "a weight without a name": {},
    "nothing": None,
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_imports_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, other = tmp_path / "small.safetensors", made("module", "module")
    layerprune.save(layerprune.remove(made("module", "module"), ["blocks.0"], X), path)
    with safetensors.safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["layerprune"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kind = "modules" if told["modules"] else "blocks"
    told |= {kind: [told[kind][0] | HOSTILE[what]]} if HOSTILE[what] is not None else {kind: None}
    if what == "a weight without a name":
        told |= {kind: [], "weights": [["blocks"]]}
    safetensors.torch.save_file(weights, path, {"layerprune": json.dumps(told)})
    before = str(other)
    with pytest.raises(LayerpruneError) as raised:
        layerprune.load(path, into=other)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert str(other) == before


class Pair(NamedTuple):
    out: Tensor
    same: Tensor


class Puts(nn.Module):
    """A block that puts out a tree of a kind, with the sum in it."""

    def __init__(self, kind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.kind = nn.Linear(8, 8), kind

    def forward(self, x: Tensor) -> Any:
        return self.kind(x + torch.tanh(self.inner(x)))


class Trees(nn.Module):
    def __init__(self, kind: Callable[[Tensor], Any], sum_of: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.blocks, self.head, self.sum_of = nn.ModuleList(Puts(kind) for _ in range(3)), nn.Linear(8, 2), sum_of

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.sum_of(block(x))
        return self.head(x)


class Key(enum.Enum):
    OUT = 1


UNSAVED = {
    "a named tuple": (lambda x: Pair(x, x), lambda out: out.out),
    "keys that are tuples": (lambda x: {(1, 2): x}, lambda out: out[1, 2]),
    "keys of an enumeration": (lambda x: {Key.OUT: x}, lambda out: out[Key.OUT]),
    "keys that are objects": (lambda x: {Pair: x}, lambda out: out[Pair]),
}
SAVED = {
    "a list in a tuple": (lambda x: ([x], None), lambda out: out[0][0]),
    "keys that are numbers": (lambda x: {3: x, "name": {True: x}}, lambda out: out[3]),
}


@pytest.mark.parametrize("kind", UNSAVED)
def test_an_output_that_could_not_be_read_again_is_not_written(kind: str, tmp_path: Path) -> None:
    x, path = torch.randn(2, 8), tmp_path / "small.safetensors"
    small = layerprune.remove(Trees(*UNSAVED[kind]), ["blocks.1"], x, "layer")
    assert small(x).shape == (2, 2)
    with pytest.raises(LayerpruneError, match=r"the output of 'blocks\.1' cannot be described: ") as raised:
        layerprune.save(small, path)
    assert "\n" not in str(raised.value) and not path.exists()


@pytest.mark.parametrize("kind", SAVED)
def test_an_output_that_is_written_is_read_again(kind: str, tmp_path: Path) -> None:
    x, path = torch.randn(2, 8), tmp_path / "small.safetensors"
    small = layerprune.remove(Trees(*SAVED[kind]), ["blocks.1"], x, "layer")
    layerprune.save(small, path)
    torch.testing.assert_close(layerprune.load(path, into=Trees(*SAVED[kind]))(x), small(x))


ELSEWHERE = {
    "an activation that is not there": ({"activation": "nope"}, [], []),
    "a number for an activation": ({"activation": 5}, [], []),
    "a weight for an activation": ({"activation": "inner.weight"}, [], []),
    "a layer with weights for an activation": ({"activation": "inner"}, [], []),
    "an activation without a name": ({"activation": ""}, [], []),
    "a weight for a block": ({"path": "head.weight"}, [], ["head.weight"]),
    "the model for a block": ({"path": ""}, [], ["blocks.0", "blocks.2", "head"]),
    "a block for a weight": ({}, ["blocks.2"], ["blocks.2"]),
    "a weight twice": ({}, ["head.bias", "head.bias"], ["head.bias"]),
    "a weight without a name": ({}, [""], []),
}
"""Of a file: what is changed of its block, added to its absent weights, and taken out of its weights."""


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_file_that_takes_out_what_is_not_there_is_refused_before_anything_is(what: str, tmp_path: Path) -> None:
    changed, absent, taken = ELSEWHERE[what]
    kind, x, path = SAVED["a list in a tuple"], torch.randn(2, 8), tmp_path / "small.safetensors"
    layerprune.save(layerprune.remove(Trees(*kind), ["blocks.1"], x, "layer"), path)
    with safetensors.safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["layerprune"])
        weights = {name: file.get_tensor(name) for name in file.keys() if not name.startswith(tuple(taken))}  # noqa: SIM118
    told["blocks"][0] |= changed
    told["weights"] += absent
    safetensors.torch.save_file(weights, path, {"layerprune": json.dumps(told)})
    model = Trees(*kind)
    before, layers = copy.deepcopy(model.state_dict()), str(model)
    with pytest.raises(LayerpruneError, match=r"belongs to another model|not a model that"):
        layerprune.load(path, into=model)
    assert str(model.state_dict()) == str(before) and str(model) == layers


def test_only_sections_that_there_are_and_that_may_go_are_removed() -> None:
    with pytest.raises(LayerpruneError, match="the model has no section 'blocks"):
        layerprune.remove(made("module"), ["blocks.7"], X)
