"""Sections of networks that nobody registered: found in every family, with what they cost and why one may not go."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from networks import source
from own_networks import EXAMPLE, Own, Residual, own, torchvisions
from torch import Tensor, nn

from layerprune.core.measure import count_macs
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections
from layerprune.library.found_sections import FoundSections
from layerprune.library.registered_blocks import register_block
from layerprune.library.rewriting import Forward

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


class Branching(nn.Module):
    """What decides by the values that its branch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        return self.act(x + out) if out.abs().max() >= 0 else x


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


class Square(torch.autograd.Function):
    """An operation that only autograd knows, as fused kernels are written."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x * x


class Meeting(nn.Module):
    """Calls somebody in the middle of its forward method, and goes on as soon as that says so."""

    def __init__(self, met: Callable[[], object]) -> None:
        super().__init__()
        self.body, self._met = nn.Linear(8, 8), met

    def forward(self, x: Tensor) -> Tensor:
        self._met()
        return x + Square.apply(self.body(x))


def told(sections: FoundSections) -> list[tuple]:
    return [(each.name, each.removable, each.macs, each.params) for each in sections]


def test_what_other_threads_train_meanwhile_is_neither_recorded_nor_disturbed() -> None:
    """The other network's call begins in the middle of the first one's and ends after all of it."""
    middle, end, answers = threading.Event(), threading.Event(), []
    other = Meeting(lambda: (middle.set(), end.wait(10)))

    def train() -> None:
        other(torch.ones(2, 8)).sum()
        answers.append("trained")

    thread = threading.Thread(target=train)

    def meet() -> None:
        if thread.ident is None:
            thread.start()
            middle.wait(10)

    apply = torch.autograd.Function.__dict__["apply"]
    expected = told(find_sections(nn.Sequential(Meeting(lambda: None), nn.Linear(8, 3)), torch.zeros(2, 8)))
    found = find_sections(nn.Sequential(Meeting(meet), nn.Linear(8, 3)), torch.zeros(2, 8))
    end.set()
    thread.join(10)
    assert told(found) == expected and answers == ["trained"]
    assert torch.autograd.Function.__dict__["apply"] is apply
    assert not any(each.module is other for each in found.trace.calls)


def test_sections_are_found_in_several_threads_at_once() -> None:
    answers: dict[int, list[tuple]] = {}

    def find(place: int) -> None:
        answers[place] = told(find_sections(own(blocks=2 + place), EXAMPLE))

    apply = torch.autograd.Function.__dict__["apply"]
    threads = [threading.Thread(target=find, args=(place,)) for place in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert answers == {place: told(find_sections(own(blocks=2 + place), EXAMPLE)) for place in range(3)}
    assert torch.autograd.Function.__dict__["apply"] is apply


def test_a_block_that_decides_by_values_says_so_and_can_be_registered() -> None:
    model, example = nn.Sequential(Branching(), Branching(), nn.Linear(8, 3)), torch.randn(4, 8, generator=source(0))
    reasons = {section.reason for section in find_sections(model, example)}
    assert len(reasons) == 1 and "the model does not run without it" in reasons.pop()
    register_block(Branching, branch="body", activation="act")
    found = find_sections(model, example)
    assert [section.name for section in found.removable] == ["0.body", "1.body"]
    reference = model(example)
    forward = Forward(found)
    forward.install()
    torch.testing.assert_close(model(example), reference)
    forward.remove([1])
    hidden = model[0](example)
    torch.testing.assert_close(model(example), model[2](torch.relu(hidden)))


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
        return x + torch.relu(hidden), self.second(hidden).mean()


class Showing(Peeking):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.first(x)
        return x + self.second(torch.relu(hidden)), hidden.mean()


def test_the_end_of_a_branch_may_go_where_its_beginning_is_used_too() -> None:
    model = Showing()
    (section,) = find_sections(model, torch.randn(4, 8, generator=source(0)))
    assert (section.removable, section.owned, section.macs, section.params) == (True, ("second",), 64, 72)


def test_a_section_that_may_not_go_says_why() -> None:
    example = torch.randn(4, 8, generator=source(0))
    assert {section.reason for section in find_sections(Twice(), example)} == {"'block.first' is used more than once"}
    (peeking,) = find_sections(Peeking(), example)
    assert peeking.reason == "what 'first' computes is used by 'second' too"
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
    torch.testing.assert_close(model(x, mask=x)["out"], reference)
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
    with pytest.raises(LayerpruneError, match=r"Own: does not accept the example input of shape \[2, 5\]"):
        find_sections(own(), torch.zeros(2, 5))
