"""Every score method on anybody's network: the scores of the networks built here, and one line where it cannot be."""

import copy
import importlib
import itertools
from functools import cache

import pytest
import torch
import torchvision
from networks import enliven, make, source
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

import layerprune
from layerprune.core import methods, surgery
from layerprune.core.measure import count_params
from layerprune.core.methods.parts import probes
from layerprune.core.networks.pretrained import to_torchvision
from layerprune.core.networks.sections import CLOSED, SectionedNetwork
from layerprune.core.training.section_scores import metered_score
from layerprune.errors import LayerpruneError
from layerprune.library.found_sections import FoundSections
from layerprune.library.scored_network import ScoredNetwork

SCORES = sorted(slug for slug, family in methods.families().items() if family == "scores")
WITHOUT_DATA = {"bn-scale", "first-k", "last-k", "magnitude", "random", "uniform-thinning"}
SHAPES = {"resnet-14": (3, 8, 8), "preact-resnet-14": (3, 8, 8), "mlp-residual-6": (1, 4, 4)}


class Plain(nn.Module):
    """A network built here as somebody's own: its sections are not told but found."""

    def __init__(self, network: SectionedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@pytest.fixture(autouse=True)
def brief_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ITERATIONS", 20)


def batches_of(shape: tuple[int, ...], classes: int = 4) -> list[tuple[Tensor, Tensor]]:
    """22 images, each a pattern of its class and as much noise, in batches of 8 and a last one of 6."""
    labels = torch.arange(22) % classes
    patterns = torch.randn(classes, *shape, generator=source(3))
    images = torch.randn(22, *shape, generator=source(2)) + patterns[labels]
    return list(zip(images.split(8), labels.split(8), strict=True))


@cache
def pair(arch: str) -> tuple[SectionedNetwork, nn.Module, FoundSections]:
    """A network, and what is found of it. Nobody changes them."""
    network = enliven(make(arch, shape=SHAPES[arch]))
    model = Plain(network).eval()
    return network, model, layerprune.find_sections(model, torch.zeros(2, *SHAPES[arch]))


# --- as of the networks built here ------------------------------------------------------------------------------


UNFIT = {
    *(("mlp-residual-6", method) for method in ("bn-scale", "tlc")),  # without batch normalisation
    *((arch, "block-influence") for arch in ("resnet-14", "preact-resnet-14", "imagenet-resnet-18")),  # shapes change
}


@pytest.mark.parametrize(("arch", "method"), [each for each in itertools.product(SHAPES, SCORES) if each not in UNFIT])
def test_scores_are_those_of_the_same_network_built_here(arch: str, method: str) -> None:
    network, model, found = pair(arch)
    sample = batches_of(SHAPES[arch])
    score = importlib.import_module(methods.module_name(method)).score
    expected, _ = metered_score(score, network, sample, seed=3)
    scores = layerprune.section_scores(model, found, method, sample, seed=3)
    assert list(scores) == [section.name for section in found.removable] and len(scores) == len(network.sections)
    torch.testing.assert_close(list(scores.values()), expected, rtol=1e-4, atol=1e-6)


@cache
def torchvisions_own() -> tuple[SectionedNetwork, nn.Module, FoundSections]:
    """A ResNet-18 built here, and torchvision's with the same weights, whose activations work in place."""
    network = enliven(make("imagenet-resnet-18", shape=(3, 32, 32)))
    model = torchvision.models.resnet18(num_classes=10).eval()
    model.load_state_dict(to_torchvision(network))
    return network, model.requires_grad_(False), layerprune.find_sections(model, torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("method", [each for each in SCORES if ("imagenet-resnet-18", each) not in UNFIT])
def test_scores_of_torchvisions_network_are_those_of_ours_although_it_is_frozen(method: str) -> None:
    network, model, found = torchvisions_own()
    sample = batches_of((3, 32, 32))
    expected, _ = metered_score(importlib.import_module(methods.module_name(method)).score, network, sample, seed=0)
    scores = layerprune.section_scores(model, found, method, sample)
    torch.testing.assert_close(list(scores.values()), expected, rtol=1e-3, atol=1e-5)
    assert not any(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize("arch", SHAPES)
def test_a_network_to_be_scored_computes_what_the_model_does_and_closes_its_gates(arch: str) -> None:
    network, _, found = pair(arch)
    scored, ((x, _), *_) = ScoredNetwork(found), batches_of(SHAPES[arch])
    torch.testing.assert_close(scored(x), network(x))
    count = len(network.sections)
    for gates in ([CLOSED if place % 2 else None for place in range(count)], torch.rand(count, 8, 1)):
        torch.testing.assert_close(scored(x, gates), network(x, gates), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", SHAPES)
def test_the_lowest_scores_go_and_the_model_stays_as_it_was(arch: str) -> None:
    network, model, found = pair(arch)
    before, sample = copy.deepcopy(model.state_dict()), batches_of(SHAPES[arch])
    scores = list(layerprune.section_scores(model, found, "taylor", sample).values())
    smaller = layerprune.prune_by_scores(model, found, "taylor", keep=2, batches=sample)
    lowest = sorted(range(len(scores)), key=scores.__getitem__)[:-2]
    expected = copy.deepcopy(network)
    surgery.remove(expected, lowest)
    x = sample[0][0]
    torch.testing.assert_close(smaller(x), expected(x), rtol=1e-4, atol=1e-4)
    assert count_params(smaller) == count_params(expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "forward" not in vars(model) and not any(part._forward_hooks for part in model.modules())
    assert not {id(each) for each in smaller.parameters()} & {id(each) for each in model.parameters()}


@pytest.mark.parametrize("keep", [0, 1, 4, 6])
@pytest.mark.parametrize("method", ["energy", "linear-probes", "magnitude", "uniform-thinning"])
def test_as_many_stay_as_asked(method: str, keep: int) -> None:
    _, model, found = pair("mlp-residual-6")
    smaller = layerprune.prune_by_scores(model, found, method, keep=keep, batches=batches_of((1, 4, 4)))
    assert count_params(smaller) == count_params(model) - (6 - keep) * found[0].params


# --- on networks of others --------------------------------------------------------------------------------------


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [1, 2], [2, 2], num_classes=4)


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 16, 2, 2, 24, 48, num_classes=4)


def convnext() -> nn.Module:
    settings = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return torchvision.models.ConvNeXt(settings, num_classes=4)


OTHERS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=4),
    "convnext": convnext,
    "swin": swin,
    "vit": vit,
}
LACKING = {
    "block-influence": {"resnet18"},
    "easier": {"swin", "vit"},
    "tlc": {"convnext", "swin", "vit"},
    "bn-scale": {"convnext", "swin", "vit"},
    "magnitude": {"swin"},
    "taylor": {"swin"},
    "feature-taylor": {"swin", "vit"},
    "gate-taylor": {"swin", "vit"},
    "sr-init": {"convnext", "swin", "vit"},
}
"""What cannot be: no batch norm; weights that are of no layer (swin's attention, convnext's scales); channels last; an
input and an output of different shapes; no rectifier (attention)."""


@cache
def others(name: str) -> tuple[nn.Module, FoundSections, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    model = OTHERS[name]()
    x = torch.randn(4, 3, 32, 32, generator=source(1))
    labels = torch.tensor([0, 1, 0, 1])
    return model, layerprune.find_sections(model, x[:2]), [(x, labels)]


@pytest.mark.parametrize("method", SCORES)
@pytest.mark.parametrize("name", OTHERS)
def test_a_network_of_others_is_scored_or_it_is_said_why_not(name: str, method: str) -> None:
    model, found, sample = others(name)
    if name in LACKING.get(method, ()):
        with pytest.raises(LayerpruneError, match=rf"^{method}: cannot score .*: section '.*' has ") as caught:
            layerprune.section_scores(model, found, method, sample)
        assert "\n" not in str(caught.value)
    else:
        scores = layerprune.section_scores(model, found, method, sample)
        assert len(scores) == len(found.removable)


def test_a_network_of_others_is_pruned() -> None:
    model, found, sample = others("resnet18")
    smaller = layerprune.prune_by_scores(model, found, "imprinting", keep=5, batches=sample)
    again = layerprune.find_sections(smaller, sample[0][0])
    assert len(again.removable) == 5 and smaller(sample[0][0]).shape == (4, 4)


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", [64, 64, 512]), ("swin", [16, 16, 32]), ("vit", [24, 24, 24])]
)
def test_places_show_their_channels_second(name: str, channels: list[int]) -> None:
    _, found, sample = others(name)
    scored, seen = ScoredNetwork(found), []
    for place in (scored.stem, scored.chain[0], scored.chain[-1]):
        place.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    scored(sample[0][0])
    assert [shape[1] for shape in seen] == channels and {len(shape) for shape in seen} == {4}


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SCORES)
def test_scores_that_look_at_data_ask_for_it_and_the_others_do_without(method: str) -> None:
    _, model, found = pair("resnet-14")
    if method in WITHOUT_DATA:
        assert len(layerprune.section_scores(model, found, method)) == 6
    else:
        with pytest.raises(LayerpruneError, match=f"^{method} looks at data: give batches, pairs of images and labels"):
            layerprune.prune_by_scores(model, found, method, keep=2)


def test_batches_that_can_be_gone_through_once_are_kept() -> None:
    _, model, found = pair("mlp-residual-6")
    sample = batches_of((1, 4, 4))
    once = layerprune.section_scores(model, found, "cka", iter(sample))
    assert once == layerprune.section_scores(model, found, "cka", sample)


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x + torch.relu(self.body(x))
        return x, x


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "gated"}, r"method: 'gated' is not a score method \(known: block-influence, bn-scale, cka"),
        ({"method": "magnitude", "keep": 7}, "keep: 7 sections requested, but the network has 6 removable ones"),
        ({"method": "magnitude", "keep": -1}, "keep: -1 sections requested"),
        ({"keep": 2.0}, "prune_by_scores: keep is the number of removable sections to keep, not 2.0"),
        ({"keep": "2"}, "keep is the number of removable sections to keep, not '2'"),
        ({"keep": None}, "keep is the number of removable sections to keep, not None"),
        ({"method": "bn-scale"}, "section 'network.chain.0.branch' has no batch normalisation with gammas"),
        ({"batches": []}, "batches: there are none"),
        ({"batches": [(torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.long))]}, "one of them has no example"),
        ({"batches": [torch.zeros(4)]}, "batches: each has to be a pair of inputs and labels"),
        ({"batches": [(torch.zeros(2, 5), torch.zeros(2).long())]}, "cka: cannot score Plain: .*shapes"),
        ({"method": "taylor", "batches": [(torch.full((2, 1, 4, 4), torch.nan), torch.zeros(2).long())]}, "is nan"),
    ],
)
def test_a_mistake_is_one_line(options: dict, complaint: str) -> None:
    _, model, found = pair("mlp-residual-6")
    with pytest.raises(LayerpruneError, match=complaint) as caught:
        layerprune.prune_by_scores(model, found, **({"keep": 2} | options))
    assert "\n" not in str(caught.value)


def test_a_model_that_puts_out_no_logits_and_one_that_is_being_pruned_are_refused() -> None:
    model, x = Pairs(), torch.randn(4, 4, generator=source(0))
    found = layerprune.find_sections(model, x)
    with pytest.raises(LayerpruneError, match=r"Pairs: returns a tuple; scores that look at data need logits"):
        layerprune.section_scores(model, found, "cka", [(x, torch.arange(4))])
    with pytest.raises(LayerpruneError, match="the sections were found in another model"):
        layerprune.section_scores(Pairs(), found, "magnitude")
    layerprune.ConcurrentPruner(model, found, torch.optim.SGD(model.parameters()), total_steps=9, nu=0.1)
    with pytest.raises(LayerpruneError, match="already being pruned"):
        layerprune.section_scores(model, found, "magnitude")
