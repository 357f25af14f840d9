"""A network on disk comes back as it was, and a damaged or foreign file is named in one line."""

import copy
import inspect
import json
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import a_run, every_keep_list, images, make
from torch import nn

from layerprune.core import surgery
from layerprune.core.measure import equivalence_gap
from layerprune.core.networks import layers, storage
from layerprune.core.networks.sections import Section, SectionedNetwork, ZeroPadShortcut, mask_gates
from layerprune.errors import LayerpruneError
from layerprune.suite import forecast
from layerprune.suite.run import task as tasks
from layerprune.suite.run.train import train


@pytest.fixture
def saved(tmp_path: Path) -> tuple[SectionedNetwork, Path, Path]:
    network = make("lenet5")
    surgery.remove_all_but(network, [1, 0, 1])
    surgery.fold(network)
    places = tmp_path / "arch.json", tmp_path / "weights.safetensors"
    storage.save(network, *places)
    return network, *places


def test_a_network_comes_back_with_the_same_logits_bit_for_bit(saved) -> None:
    network, arch, weights = saved
    assert torch.equal(storage.load(arch, weights)(images(3)), network(images(3)))


def test_saving_leaves_the_network_as_it_was(saved) -> None:
    network, arch, weights = saved
    before = copy.deepcopy(network.state_dict())
    storage.save(network, arch, weights)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_equal_networks_make_equal_files(saved, tmp_path: Path) -> None:
    network, arch, weights = saved
    again = tmp_path / "again.json", tmp_path / "again.pt"
    storage.save(copy.deepcopy(network), *again)
    assert again[0].read_bytes() == arch.read_bytes()
    assert again[1].read_bytes() == weights.read_bytes()


def test_the_description_names_every_layer_with_its_sizes(saved) -> None:
    described = json.loads(saved[1].read_text())
    assert [section["name"] for section in described["sections"]] == ["conv1", "conv2", "fc1"]
    assert described["sections"][1]["branch"] is None
    assert described["sections"][0]["branch"]["layers"][-1] == {
        "type": "conv",
        "in": 20,
        "out": 50,
        "kernel": [5, 5],
        "stride": [1, 1],
        "padding": [0, 0],
        "bias": True,
    }


def test_weights_of_another_architecture_are_refused(saved, tmp_path: Path) -> None:
    other = make("lenet-300-100")
    storage.save(other, tmp_path / "other.json", tmp_path / "other.safetensors")
    with pytest.raises(LayerpruneError, match=r"other\.safetensors.*another architecture"):
        storage.load(saved[1], tmp_path / "other.safetensors")


def test_truncated_weights_are_refused_by_name(saved) -> None:
    _, arch, weights = saved
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(LayerpruneError, match=r"weights\.safetensors: corrupt") as caught:
        storage.load(arch, weights)
    assert "\n" not in str(caught.value)


class _Anything:
    pass


def test_weights_that_carry_code_are_not_run(saved) -> None:
    pickled = saved[2].with_suffix(".pt")
    torch.save({"stem": _Anything()}, pickled)
    with pytest.raises(LayerpruneError, match=r"weights\.pt: corrupt"):
        storage.load(saved[1], pickled)


@pytest.mark.parametrize("text", ["{}", "[]", '{"stem": 3}', "not json", '{"arch": "x", "sections": [1]}'])
def test_a_malformed_description_is_refused_by_name(saved, text: str) -> None:
    _, arch, weights = saved
    arch.write_text(text)
    with pytest.raises(LayerpruneError, match=r"arch\.json"):
        storage.load(arch, weights)


def test_a_saved_network_still_knows_which_activation_goes_with_its_branch(tmp_path: Path) -> None:
    places = tmp_path / "arch.json", tmp_path / "weights.safetensors"
    storage.save(make("resnet-8", shape=(3, 32, 32)), *places)
    again = storage.load(*places)
    surgery.remove(again, [0])
    assert again.chain[0].transparent


def test_the_description_says_nothing_of_activations_that_stay(saved, tmp_path: Path) -> None:
    assert "activation_if_removed" not in saved[1].read_text()
    network = make("resnet-8", shape=(3, 32, 32))
    surgery.remove_all_but(network, [0, 0, 0])
    assert "activation_if_removed" not in json.dumps(storage.describe(network))


# --- layers -------------------------------------------------------------------------------------------------------

WHOLE = {
    nn.Linear: {"in_features": 6, "out_features": 4},
    nn.Conv2d: {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
    nn.BatchNorm1d: {"num_features": 4},
    nn.BatchNorm2d: {"num_features": 4},
    nn.MaxPool2d: {"kernel_size": 3},
    nn.AvgPool2d: {"kernel_size": 3},
    nn.AdaptiveAvgPool2d: {"output_size": 1},
    nn.ReLU: {},
    nn.Flatten: {},
    nn.Identity: {},
    nn.Sequential: {},
    ZeroPadShortcut: {"channels": 8, "stride": 2},
}
"""Layers of every kind that can be saved, by their arguments."""
OTHER_VALUES = {
    "in_features": [3],
    "out_features": [3],
    "in_channels": [2],
    "out_channels": [2],
    "num_features": [2],
    "channels": [6],
    "kernel_size": [2, (3, 2), (3, 3)],
    "stride": [1, 2, (2, 1)],
    "padding": [1, (1, 0), "same", "valid"],
    "dilation": [2, (1, 2)],
    "groups": [2],
    "bias": [False],
    "padding_mode": ["reflect", "circular"],
    "eps": [1e-3],
    "momentum": [0.3, None],
    "affine": [False],
    "track_running_stats": [False],
    "return_indices": [True],
    "ceil_mode": [True],
    "count_include_pad": [False],
    "divisor_override": [5],
    "output_size": [2, (1, 1), (None, 1)],
    "inplace": [True],
    "start_dim": [2],
    "end_dim": [2],
}
NOT_STORED = ["padding_mode", "affine", "track_running_stats", "return_indices", "inplace", "start_dim", "end_dim"]
NO_OPTIONS = {"device", "dtype", "args", "kwargs"}


def options_of(kind: type[nn.Module]) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name not in NO_OPTIONS]


def variants() -> list[Any]:
    """Layers of every kind with every option at another value, where torch builds such a layer."""
    found = []
    for kind, given in WHOLE.items():
        for option in options_of(kind):
            for value in OTHER_VALUES[option]:
                if kind is nn.Conv2d or not isinstance(value, str):  # pools take no words for a padding
                    name = f"{kind.__name__}-{option}-{value}"
                    found.append(pytest.param(kind(**(given | {option: value})), option, value, id=name))
    return found


def in_words(module: nn.Module) -> str:
    """A layer's repr, sizes alike whether they are lists, tuples or one number."""
    return re.sub(r"\((\d+), \1\)", r"\1", repr(module).replace("[", "(").replace("]", ")"))


def come_back(module: nn.Module) -> nn.Module:
    """A layer from its description as JSON, with the weights of the first."""
    again = layers.build(json.loads(json.dumps(layers.describe(module, "here"))))
    again.load_state_dict(module.state_dict())
    return again


def shuffled(module: nn.Module) -> nn.Module:
    """The layer with random weights and statistics."""
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(3)) + 0.5)
    return module


@pytest.mark.parametrize(("module", "option", "value"), variants())
def test_every_option_of_every_kind_of_layer_comes_back_or_is_refused_by_name(
    module: nn.Module, option: str, value: Any
) -> None:
    kind = type(module).__name__
    stored = option not in NOT_STORED and not (kind.startswith("Batch") and option == "bias")
    if stored and not (option == "output_size" and value != (1, 1)):
        assert in_words(come_back(module)) == in_words(module)
        return
    with pytest.raises(LayerpruneError) as caught:
        layers.describe(module, "here")
    assert str(caught.value).startswith(f"here: {kind} with {option}={value!r} cannot be saved, only with {option}=")


SAVED = {
    "same": (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (4, 9, 9)),
    "grouped": (nn.Conv2d(4, 8, (3, 1), (2, 1), (1, 0), groups=4, bias=False), (4, 9, 9)),
    "max": (nn.MaxPool2d(3, 2, ceil_mode=True), (4, 8, 8)),
    "dilated max": (nn.MaxPool2d((2, 3), 1, dilation=2), (4, 9, 9)),
    "mean that keeps the size": (nn.AvgPool2d(3, 1, 1), (4, 6, 6)),
    "mean without its border": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (4, 6, 6)),
    "mean of another divisor": (nn.AvgPool2d(2, ceil_mode=True, divisor_override=3), (4, 5, 5)),
    "mean of the whole": (nn.AdaptiveAvgPool2d((1, 1)), (4, 5, 5)),
    "norm of vectors": (nn.BatchNorm1d(6, 1e-3, None), (6,)),
    "norm of pictures": (nn.BatchNorm2d(4, 1e-2), (4, 3, 3)),
    "named": (nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 2, 1), act=nn.ReLU())), (4, 3, 3)),
    "part of a chain": (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU())[1:], (4, 3, 3)),
}


@pytest.mark.parametrize(("module", "shape"), SAVED.values(), ids=SAVED)
def test_a_layer_that_comes_back_computes_the_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = images(3, shape)
    assert torch.equal(come_back(shuffled(module)).eval()(x), module.eval()(x))


@pytest.mark.parametrize("kind", WHOLE)
def test_options_at_their_defaults_add_nothing_to_a_description(kind: type[nn.Module]) -> None:
    told = layers.describe(kind(**WHOLE[kind]), "here")
    odd = {"dilation", "groups", "ceil_mode", "count_include_pad", "divisor_override", "names"}
    assert odd.isdisjoint(told)
    assert ("stride" in told) == ("padding" in told) == (kind is nn.Conv2d) or kind is ZeroPadShortcut


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Twice(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(x))


class Doubling(Section):
    def forward(self, x: torch.Tensor, gate: Any = None) -> torch.Tensor:
        return 2 * super().forward(x, gate)


class Halving(SectionedNetwork):
    def forward(self, x: torch.Tensor, *gates: Any) -> torch.Tensor:
        return super().forward(x, *gates) / 2


def with_attribute(module: nn.Module, name: str, value: Any) -> nn.Module:
    setattr(module, name, value)
    return module


CONV = 4, 4, 3, 1, 1
REFUSED = {
    "a subclass of Sequential": (Twice(nn.Conv2d(*CONV)), "Twice, derived from Sequential: this kind of layer cannot"),
    "a subclass of Conv2d": (Standardised(*CONV), "Standardised, derived from Conv2d: this kind of layer cannot"),
    "a layer that draws": (nn.Dropout(0.1), "Dropout: this kind of layer cannot be saved (known: Linear, Conv2d, "),
    "an activation": (nn.GELU(), "GELU: this kind"),
    "a border": (nn.Conv2d(*CONV, padding_mode="reflect"), "Conv2d with padding_mode='reflect' cannot be saved, only "),
    "a norm without bias": (nn.BatchNorm2d(4, bias=False), "BatchNorm2d with bias=False cannot be saved, only "),
    "an own attribute": (with_attribute(nn.ReLU(), "gain", 2.0), "ReLU with gain=2.0 cannot be saved: this is no opt"),
    "an own forward": (with_attribute(nn.ReLU(), "forward", torch.tanh), "ReLU with forward=<built-in method tanh "),
    "an own part": (with_attribute(nn.ReLU(), "more", nn.ReLU()), "ReLU with more=True cannot be saved: this is no"),
    "an own weight": (
        with_attribute(nn.ReLU(), "slope", nn.Parameter(torch.ones(2))),
        "ReLU with slope=True cannot be saved: this is no option of ReLU",
    ),
    "another weight": (torch.nn.utils.spectral_norm(nn.Linear(2, 2)), "Linear with weight_orig=True cannot be saved"),
}


def network_with(branch: nn.Module) -> SectionedNetwork:
    sections = [Section("one", nn.Sequential(nn.ReLU(), branch))]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return SectionedNetwork("own-net", (1, 4, 4), nn.Conv2d(1, 4, 1), sections, head)


@pytest.mark.parametrize("save", [storage.describe, storage.check_can_be_saved], ids=["saving", "checking"])
@pytest.mark.parametrize("odd", REFUSED)
def test_a_layer_that_would_come_back_as_another_is_refused_in_one_line(odd: str, save: Callable) -> None:
    layer, complaint = REFUSED[odd]
    with pytest.raises(LayerpruneError) as caught:
        save(network_with(layer))
    assert str(caught.value).startswith(f"own-net: section 'one': branch.1: {complaint}")


CONV_TOLD = {"type": "conv", "in": 1, "out": 1, "kernel": 1, "stride": 1, "padding": 0, "bias": False}
POOL_TOLD = {"type": "mean-pool", "kernel": 2}
TWO = [{"type": "relu"}, {"type": "relu"}]
MALFORMED = [
    *(CONV_TOLD | {"padding": value} for value in ("odd", [1, "same"], "same" * 10**6, 10**9)),
    *(POOL_TOLD | odd for odd in ({"divisor_override": 0}, {"padding": 2}, {"ceil_mode": "x"}, {"stride": 10**30})),
    *({"type": "max-pool", "kernel": 2} | odd for odd in ({"dilation": 10**9}, {"dilation": 0}, {"padding": "same"})),
    *({"type": "chain", "layers": TWO, "names": names} for names in (["a"], ["a", "a"], ["a.b", "c"], ["", "b"])),
    *({"type": "chain", "layers": TWO, "names": names} for names in (["forward", "b"], [1, 2], "abc", 3, {"a": 1})),
]


@pytest.mark.parametrize("stem", MALFORMED, ids=lambda stem: repr(stem)[:90])
def test_a_layer_of_senseless_options_is_refused_when_it_is_read(stem: dict[str, Any]) -> None:
    ends = {"stem": stem, "head": {"type": "chain", "layers": [{"type": "global-mean-pool"}, {"type": "flatten"}]}}
    description = {"arch": "own-net", "input_shape": [1, 4, 4], "sections": []} | ends
    with pytest.raises(LayerpruneError, match=r"^arch\.json: "):
        storage.described(description, "arch.json")


# --- before a training --------------------------------------------------------------------------------------------


def plain(name: str = "one", kind: type[Section] = Section, count: int = 1) -> list[Section]:
    return [kind(name, nn.Sequential(nn.ReLU(), nn.Conv2d(*CONV))) for _ in range(count)]


def own(kind: type = SectionedNetwork, sections: list[Section] | None = None, head: Any = None, arch: str = "own-net"):
    ends = nn.Conv2d(1, 4, 1), head or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return kind(arch, (1, 4, 4), ends[0], plain() if sections is None else sections, ends[1])


def shared() -> SectionedNetwork:
    conv = nn.Conv2d(*CONV)
    return own(sections=[Section(name, nn.Sequential(nn.ReLU(), conv)) for name in ("one", "two")])


def hooked() -> SectionedNetwork:
    network = own()
    network.chain[0].branch[1].register_forward_hook(lambda module, inputs, out: 2 * out)
    return network


def extended() -> SectionedNetwork:
    network = own()
    network.chain[0].scale = nn.Parameter(torch.ones(1))
    return network


CANNOT = {
    "a name that is a path": (lambda: own(sections=plain("a/b0")), "the name 'a/b0' has other characters than"),
    "a name that is a number": (lambda: own(sections=plain(3)), "expected string"),
    "a name of a layer": (
        lambda: own(head=nn.Sequential(OrderedDict({"größe": nn.Flatten(), "last": nn.Linear(64, 10)}))),
        "the layer's name 'größe' has other characters",
    ),
    "a name twice": (lambda: own(sections=plain(count=2)), "two sections have the name 'one'"),
    "weights in two places": (shared, "chain.0.branch.1.weight and chain.1.branch.1.weight share their numbers"),
    "a hook": (hooked, "built again from its layers and weights, it computes other logits"),
    "a section's own weights": (extended, "the weights chain.0.scale belong to none of its layers"),
    "layers that do not fit": (lambda: own(head=nn.Linear(3, 10)), "mat1 and mat2"),
    "an output of another form": (lambda: own(head=nn.ReLU()), "its output has the shape [1, 4, 4, 4]"),
    "levels without end": (lambda: own(head=nn.Sequential(own().head, nested(30))), "nested too deeply"),
}


def nested(levels: int) -> nn.Module:
    return nn.Sequential(nested(levels - 1)) if levels else nn.Identity()


@pytest.mark.parametrize("case", CANNOT)
def test_a_network_that_cannot_be_saved_is_found_before_it_is_trained(case: str) -> None:
    make_it, complaint = CANNOT[case]
    with pytest.raises(LayerpruneError) as caught:
        storage.check_can_be_saved(make_it())
    assert str(caught.value).startswith(f"own-net: this network cannot be saved: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (lambda: own(sections=plain(kind=Doubling)), "section 'one': Doubling, derived from Section: code of"),
        (lambda: own(Halving), "the network: Halving, derived from SectionedNetwork: code of"),
    ],
    ids=["section", "network"],
)
def test_code_of_ones_own_around_the_layers_is_refused(network: Callable, complaint: str) -> None:
    with pytest.raises(LayerpruneError) as caught:
        storage.describe(network())
    assert str(caught.value).startswith(f"own-net: {complaint}")


def test_the_check_leaves_the_network_and_the_random_numbers_as_they_were() -> None:
    network = own(head=nn.Sequential(nn.BatchNorm2d(4), *own().head)).train()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    storage.check_can_be_saved(network)
    assert torch.equal(torch.get_rng_state(), state) and all(part.training for part in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


REFLECTING = r"^own-net: section 'one': branch\.1: Conv2d with padding_mode='reflect' cannot be saved"


def build_reflecting(*given: Any) -> SectionedNetwork:
    return network_with(nn.Conv2d(*CONV, padding_mode="reflect"))


def test_a_run_whose_network_cannot_be_saved_ends_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "build", build_reflecting)
    monkeypatch.setattr(tasks.Task, "fresh_network", lambda *given: pytest.fail("it has been started"))
    with pytest.raises(LayerpruneError, match=REFLECTING):
        train(a_run("dense"))


def test_a_forecast_of_a_network_that_cannot_be_saved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "build", build_reflecting)
    with pytest.raises(LayerpruneError, match=REFLECTING):
        forecast.seconds_a_step(a_run("dense").settings, torch.device("cpu"), 1, 1)


def of_rare_options() -> SectionedNetwork:
    """Linear shortcuts, which are multiplied out where their branches go, of layers with options of their own."""
    same = OrderedDict(mean=nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv=nn.Conv2d(4, 4, 3, padding="same"))
    halved = nn.Sequential(nn.AvgPool2d((3, 3), 2, ceil_mode=True), nn.Conv2d(4, 6, 2, dilation=2, padding=1, groups=2))
    flat = nn.Sequential(nn.AvgPool2d(2, divisor_override=3), nn.Flatten(), nn.Linear(6, 8))
    sections = [
        Section("one", nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same")), nn.Sequential(same)),
        Section(
            "two", nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(4, 6, 2, dilation=2, padding=1)), halved
        ),
        Section("three", nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(6, 8)), flat),
        Section("four", nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8)), nn.Linear(8, 8)),
    ]
    head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 10))
    return SectionedNetwork("own-net", (1, 7, 7), nn.Conv2d(1, 4, 3, padding="valid"), sections, head).eval()


@pytest.mark.parametrize("keep", every_keep_list(4), ids=str)
def test_networks_of_rare_options_shrink_and_come_back_without_another_output(keep: list[int], tmp_path: Path) -> None:
    whole = of_rare_options()
    storage.check_can_be_saved(whole)
    for layer in whole.modules():
        if isinstance(layer, nn.BatchNorm1d):
            shuffled(layer)
    left = copy.deepcopy(whole)
    surgery.remove_all_but(left, keep)
    for section in left.sections:
        if section.alive:
            surgery.scale_branch(section, 0.7)
    surgery.fold(left)
    places = tmp_path / "arch.json", tmp_path / "weights.safetensors"
    storage.save(left, *places)
    gates = mask_gates([0.7 * stays for stays in keep])
    assert equivalence_gap(whole, gates, storage.load(*places), images(4, (1, 7, 7))) < 1e-5
