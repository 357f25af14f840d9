"""A block that has no sections left hands its input on; nothing is passed over that does something else."""

import copy
import io

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from layerprune.library.absence import HandedOn
from layerprune.library.find_sections import find_sections
from layerprune.library.rewriting import Forward

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def without_all(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of the model that has lost every section, compared with closed gates."""
    found = find_sections(model.eval(), x)
    forward = Forward(found)
    forward.install()
    forward.values[:] = [torch.zeros(1, 1)] * len(forward.alive)
    closed = model(x)
    forward.values[:] = [None] * len(forward.alive)
    forward.remove(range(len(forward.alive)))
    left = forward.plain()
    torch.testing.assert_close(left(x), closed)
    return left


def blocks_of(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, HandedOn)]


class Twice(nn.Module):
    """Two sections in one block, as transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.first(x))
        return x + torch.tanh(self.second(x))


class WithinABranch(Twice):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(self.second(self.first(x)))
        out += x
        return functional.relu(out, inplace=True)


@pytest.mark.parametrize("kind", [Twice, WithinABranch])
def test_a_block_is_not_entered_once_its_sections_have_gone(kind: type[nn.Module]) -> None:
    left = without_all(nn.Sequential(nn.Linear(8, 8), kind(), nn.Linear(8, 3)), X)
    assert blocks_of(left) == ["1"]
    file = io.BytesIO()
    torch.save(left, file)
    file.seek(0)
    for each in (copy.deepcopy(left), torch.load(file, weights_only=False)):
        assert torch.equal(each(X), left(X))


def test_blocks_of_resnet_keep_their_activation_and_those_with_a_projection_stay() -> None:
    left = without_all(torchvision.models.resnet18(num_classes=5), torch.randn(2, 3, 32, 32))
    assert blocks_of(left) == ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]
    x = torch.randn(2, 64, 4, 4, requires_grad=True)
    given = x.detach().clone()
    out = left.layer1(x)
    assert torch.equal(out, given.relu()) and torch.equal(x, given)


def test_a_block_of_two_sections_is_entered_until_both_have_gone() -> None:
    model = nn.Sequential(Twice(), Twice()).eval()
    forward = Forward(find_sections(model, X))
    forward.install()
    forward.remove([0])
    assert blocks_of(model) == []
    forward.remove([1])
    assert blocks_of(model) == ["0"]


def test_a_block_with_somebodys_hook_is_entered() -> None:
    model, calls = nn.Sequential(Twice(), Twice()).eval(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    forward = Forward(find_sections(model, X))
    forward.remove(range(4))
    calls.clear()
    model(X)
    assert blocks_of(model) == ["1"] and calls == [1]


class Deciding(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() < 5 else -x


class Noting(Twice):
    def forward(self, x: Tensor) -> Tensor:
        self.last = x.sum()
        return super().forward(x)


class Scaled(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Weighted(Twice):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)


@pytest.mark.parametrize("kind", [Deciding, Noting, Scaled, Weighted])
def test_a_block_that_does_something_besides_is_entered(kind: type[nn.Module]) -> None:
    left = without_all(nn.Sequential(kind(), nn.Linear(8, 3)), X)
    assert blocks_of(left) == []
    if kind is Deciding:
        high = torch.full((3, 8), 7.0)
        assert torch.equal(left(high), left[1](-high))


def test_blocks_with_an_activation_go_one_after_the_other() -> None:
    model = nn.Sequential(WithinABranch(), WithinABranch(), WithinABranch()).eval()
    forward = Forward(find_sections(model, X))
    for place in range(3):
        forward.remove([place])
    assert blocks_of(model) == ["0", "1", "2"]
    assert torch.equal(model(X), X.relu())


def test_gates_are_put_on_what_is_left_where_blocks_have_gone_before() -> None:
    model = nn.Sequential(WithinABranch(), Twice(), WithinABranch()).eval()
    forward = Forward(find_sections(model, X))
    forward.remove([0, 1, 2])
    before = model(X)
    forward.install()
    assert torch.equal(model(X), before)
    forward.values[3] = torch.zeros(1, 1)
    assert torch.equal(model(X), X.relu())
