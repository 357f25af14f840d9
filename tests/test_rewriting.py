"""A generated forward method: a closed gate computes what a removed section does, and the rest stays as it was."""

import pytest
import torch
from networks import source
from own_networks import own, torchvisions
from torch import Tensor, nn

from layerprune.library.find_sections import find_sections
from layerprune.library.rewriting import Forward


@pytest.mark.parametrize(
    "name", ["resnet18", "regnet_y_400mf", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "swin_t"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_removed_section_computes_what_a_closed_gate_does(name: str, seed: int) -> None:
    model, x = torchvisions(name)
    model.eval()
    reference, forward = model(x), Forward(find_sections(model, x))
    forward.install()
    torch.testing.assert_close(model(x), reference)
    count = len(forward.alive)
    gone = torch.randperm(count, generator=source(seed))[: count // 2 + seed].tolist()
    for place in gone:
        forward.values[place] = torch.zeros(1, 1)
    closed = model(x)
    forward.values[:] = [None] * count
    before = sum(each.numel() for each in model.parameters())
    left = forward.remove(gone)
    torch.testing.assert_close(model(x), closed, atol=1e-5, rtol=1e-4)
    assert sum(each.numel() for each in model.parameters()) == before - sum(each.numel() for each in left)
    plain = forward.plain().eval()
    torch.testing.assert_close(plain(x), closed, atol=1e-5, rtol=1e-4)
    assert plain.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "convnext_tiny"])
def test_what_is_left_still_learns_although_activations_work_in_place(name: str) -> None:
    model, x = torchvisions(name)
    forward = Forward(find_sections(model, x))
    forward.remove(range(0, len(forward.alive), 2))
    model.train()(x).sum().backward()
    assert all(each.grad is not None for each in model.parameters())


class InPlace(nn.Module):
    """An activation that works in place on what a section adds to, and somebody who needs the original."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        return self.act(x + self.body(x)) + 10 * x


def test_what_is_passed_on_is_not_overwritten_where_it_is_needed_again() -> None:
    model, x = InPlace().eval(), torch.randn(4, 8, generator=source(4))
    found = find_sections(model, x)
    forward = Forward(found)
    forward.remove([place for place, section in enumerate(found.removable) if section.name == "body"])
    torch.testing.assert_close(model(x), torch.relu(x - 0.5) + 10 * (x - 0.5))


def test_a_gate_belongs_to_one_example() -> None:
    model, x = own().eval(), torch.randn(3, 1, 28, 28, generator=source(2))
    forward = Forward(find_sections(model, x))
    forward.install()
    forward.values[1] = torch.tensor([[1.0], [0.0], [1.0]])
    mixed = model(x)
    forward.values[1] = None
    opened = model(x)
    forward.values[1] = torch.zeros(1, 1)
    torch.testing.assert_close(mixed, torch.stack([opened[0], model(x)[1], opened[2]]))


def test_dropout_follows_the_mode_although_it_is_a_function() -> None:
    model, x = own(), torch.randn(8, 1, 28, 28, generator=source(2))
    Forward(find_sections(model, x)).install()
    assert torch.equal(model.eval()(x), model(x)) and not torch.equal(model.train()(x), model(x))
