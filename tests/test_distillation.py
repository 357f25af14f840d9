"""A teacher beside the model that is pruned, against the formula computed by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from own_networks import EXAMPLE, own
from test_concurrent_pruner import a_pruner, batches, train
from torch import Tensor, nn
from torch.nn import functional

from layerprune.core.training.finetuning import Finetuning
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections


def softened(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(each / temperature) for each in logits]
    return [each / sum(powers) for each in powers]


def by_hand(plain: float, own_logits: list, teachers: list, weight: float, temperature: float) -> float:
    """The mean over rows [N][classes] of T^2 KL(teacher || model), mixed with the plain loss."""
    gaps = []
    for mine, wanted in zip(own_logits, teachers, strict=True):
        p, q = softened(wanted, temperature), softened(mine, temperature)
        gaps.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return (1 - weight) * plain + weight * sum(gaps) / len(gaps)


@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 4.0), (0.8, 1.5), (0.0, 2.0), (1.0, 3.0)])
def test_the_loss_is_that_of_the_formula(weight: float, temperature: float) -> None:
    torch.manual_seed(1)
    teacher = own(classes=10, width=16)
    pruner = a_pruner(own(), nu=0.1, teacher=teacher, distill=weight, temperature=temperature)
    x, y = batches()[0]
    out = pruner.model.eval()(x).detach()
    plain = functional.cross_entropy(out, y)
    expected = by_hand(float(plain.detach()), out.tolist(), teacher.eval()(x).tolist(), weight, temperature)
    assert float(pruner.distilled(plain, x, out)) == pytest.approx(expected, rel=1e-4)


def test_it_is_what_the_suite_computes_in_fine_tuning() -> None:
    teacher = own(width=16).eval()
    pruner = a_pruner(own(), nu=0.1, teacher=teacher)
    x, y = batches()[0]
    out = pruner.model.eval()(x)
    suites = Finetuning.__new__(Finetuning)
    suites.distill, suites.context = 0.5, SimpleNamespace(teacher=teacher, label_smoothing=0.0)
    expected = suites.losses(x, out, y).mean()
    torch.testing.assert_close(pruner.distilled(functional.cross_entropy(out, y), x, out), expected)


def test_the_copy_is_the_model_at_the_start_and_stays_whole_and_frozen() -> None:
    model, x = own(rate=0.5), batches()[0][0]
    at_the_start = model.eval()(x).detach()
    pruner = a_pruner(model.train(), nu=3.0, teacher=True, distill=1.0, temperature=1.0)
    train(pruner, range(120))
    assert len(pruner.removed) == 4
    zero = torch.zeros((), requires_grad=True)
    assert float(pruner.distilled(zero, x, at_the_start).detach()) == pytest.approx(0, abs=1e-6)
    other = at_the_start.flip(1).requires_grad_()
    pruner.distilled(zero, x, other).backward()
    assert float(other.grad.abs().sum()) > 0
    assert not any(each.requires_grad or each.grad is not None for each in pruner._teacher.module.parameters())


def test_it_takes_one_more_line_of_a_loop_and_a_teacher_keeps_its_mode() -> None:
    teacher = own(width=16, rate=0.9).train()
    pruner = a_pruner(own(), target_depth=2, teacher=teacher)
    model, data = pruner.model.train(), batches()
    for step in range(120):
        x, y = data[step % len(data)]
        out = model(x)
        loss = functional.cross_entropy(out, y)
        loss = pruner.distilled(loss, x, out)
        loss.backward()
        pruner.optimizer.step()
        pruner.optimizer.zero_grad()
        pruner.step()
    assert len(pruner.removed) == 2 and all(part.training for part in teacher.modules())
    x = data[0][0]
    assert torch.equal(*(pruner.distilled(torch.zeros(()), x, x.flatten(1)[:, :10]) for _ in range(2)))  # no dropout


class Pixels(nn.Module):
    """Classes [B, C, H, W] of pixels, as torchvision's networks for segmentation return them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        return {"out": self.head(x + self.body(x))}


def test_every_pixel_counts_alike() -> None:
    model, teacher, x = Pixels(), Pixels(), EXAMPLE + 1
    optimizer = torch.optim.SGD(model.parameters())
    pruner = a_pruner(model, optimizer, find_sections(model, x), nu=0.1, teacher=teacher)
    outputs, wanted = model.eval()(x), teacher(x)
    rows = [each["out"].permute(0, 2, 3, 1).reshape(-1, 3).tolist() for each in (outputs, wanted)]
    expected = by_hand(2.0, *rows, 0.5, 4.0)
    assert float(pruner.distilled(torch.tensor(2.0), x, outputs).detach()) == pytest.approx(expected, rel=1e-4)


class Words(nn.Module):
    """Logits [B, length, classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Linear(2, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.body(x)


def test_where_the_classes_could_be_elsewhere_that_has_to_be_said() -> None:
    model, teacher, x = Words(), Words(), torch.rand(3, 7, 2)
    pruner = a_pruner(model, torch.optim.SGD(model.parameters()), find_sections(model, x), nu=0.1, teacher=teacher)
    out = model.eval()(x)
    with pytest.raises(LayerpruneError, match=r"which dimension of \[3, 7, 5\] has the classes\? Give dim=1 or 2"):
        pruner.distilled(torch.zeros(()), x, out)
    expected = by_hand(0.0, out.reshape(-1, 5).tolist(), teacher(x).reshape(-1, 5).tolist(), 0.5, 4.0)
    assert float(pruner.distilled(torch.zeros(()), x, out.detach(), dim=2)) == pytest.approx(expected, rel=1e-4)


def test_mistakes_are_one_line() -> None:
    x, loss = batches()[0][0], torch.zeros(())
    with pytest.raises(LayerpruneError, match=r"there is no teacher; create the pruner with teacher=True"):
        a_pruner(own(), nu=0.1).distilled(loss, x, x)
    model = own()
    with pytest.raises(LayerpruneError, match="the teacher is the model itself"):
        a_pruner(model, nu=0.1, teacher=model)
    pruner = a_pruner(own(), nu=0.1, teacher=own(classes=7))
    with pytest.raises(LayerpruneError, match=r"outputs have the shape \[64, 10\], the teacher's \[64, 7\]"):
        pruner.distilled(loss, x, pruner.model.eval()(x))
    with pytest.raises(LayerpruneError, match=r"give outputs that are logits, .* not list"):
        pruner.distilled(loss, x, [1])
