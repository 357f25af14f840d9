"""Mistakes in the use of the library: each is one line that names the way out, and the model stays as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerprune.errors import LayerpruneError
from layerprune.library.concurrent_pruner import ConcurrentPruner
from layerprune.library.find_sections import find_sections
from layerprune.library.prune_by_scores import prune_by_scores

EXAMPLE = torch.zeros(2, 8)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), *(Block() for _ in range(3)), nn.Linear(8, 2))


def seen(model: nn.Module) -> list[Any]:
    """All of a model that a user could find changed."""
    modules = dict(model.named_modules())
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_pre_hooks")
    return [
        {
            name: (list(vars(each)), each.training, [dict(getattr(each, kind)) for kind in kinds])
            for name, each in modules.items()
        },
        {name: (each.tolist(), each.requires_grad) for name, each in model.state_dict(keep_vars=True).items()},
        [id(each) for each in model.parameters()],
    ]


def plain(model: nn.Module) -> None:
    del model[2:5]


def tied(model: nn.Module) -> None:
    for block in model[2:5]:
        block.first.weight = model[0].weight


def hooked(model: nn.Module) -> None:
    for block in model[2:5]:
        block.second.register_forward_hook(lambda *_: None)


def frozen(model: nn.Module) -> None:
    model.requires_grad_(False)


def frozen_but_the_head(model: nn.Module) -> None:
    model.requires_grad_(False)
    model[-1].requires_grad_()


def of_the_head(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model[-1].parameters(), lr=0.1)


MISTAKES: dict[str, tuple[Callable[[nn.Module], None] | None, Callable | None, dict[str, Any], str]] = {
    "no sections": (plain, None, {}, r"Sequential: no residual section found; looked for additions"),
    "shared weights": (tied, None, {}, r"no section can be removed: shares weights with '\d.first.weight'; print"),
    "hooks on branches": (hooked, None, {}, r"no section can be removed: '2.second' has hooks"),
    "frozen": (
        frozen,
        None,
        {},
        r"section '2' is frozen: none of its parameters requires a gradient; call requires_grad_\(\)",
    ),
    "frozen but the head": (frozen_but_the_head, of_the_head, {}, r"section '2' is frozen: .* call requires_grad_\(\)"),
    "optimizer of the head": (
        None,
        of_the_head,
        {},
        r"does not hold .* section '2': make it from model.parameters\(\)",
    ),
    "no aim": (None, None, {"nu": None}, r"give one of nu, target_macs, target_params, "),
    "two aims": (None, None, {"target_depth": 1}, r"give one of nu, target_macs, target_params, "),
    "a price below 0": (None, None, {"nu": -1.0}, r"ConcurrentPruner: nu: "),
    "too little time": (None, None, {"nu": None, "target_latency": 1e-4}, r"0.0001 of the latency is less than what"),
    "too few MACs": (None, None, {"nu": None, "target_macs": 0.01}, r"less than what cannot be removed \(0\.172\)"),
    "more than all MACs": (
        None,
        None,
        {"nu": None, "target_macs": 60},
        r"a share of the model's, .* at most 1, not 60",
    ),
    "too many sections": (None, None, {"nu": None, "target_depth": 4}, r"4 sections requested, the network has 3"),
    "fewer than no sections": (None, None, {"nu": None, "target_depth": -1}, r"sections to keep, 0 or more, not -1"),
    "no share of the parameters": (None, None, {"nu": None, "target_params": 1.5}, r"or a whole number .* not 1.5"),
    "too few parameters": (
        None,
        None,
        {"nu": None, "target_params": 2},
        r"r: target_params: 0.\d+ of the parameters is less",
    ),
    "too little memory": (
        None,
        None,
        {"nu": None, "target_memory": 0.01},
        r"less than what the model takes",
    ),
    "no validation": (None, None, {"nu": None, "max_loss_increase": 0.1}, r"give both max_loss_increase and validate"),
    "a loss without an allowance": (None, None, {"validate": float}, r"give both max_loss_increase and validate"),
    "no rise": (None, None, {"nu": None, "max_loss_increase": 0, "validate": float}, r"may rise, above 0, not 0"),
    "no loss": (None, None, {"nu": None, "max_loss_increase": 1, "validate": dict}, r"one number, not dict"),
    "no weight": (None, None, {"teacher": True, "distill": 2}, r"distill is a share of the loss"),
    "no teacher": (None, None, {"teacher": "resnet"}, r"teacher is a module or True, not 'resnet'"),
    "no steps": (
        None,
        None,
        {"total_steps": 0},
        r"total_steps is how often step\(\) will be called, a whole number of at least 1, not 0",
    ),
    "warm-up to the end": (
        None,
        None,
        {"warmup_steps": 10},
        r"ConcurrentPruner: warmup_steps: 10 leaves theta no step",
    ),
    "no gates": (None, None, {"drawn_share": 0.0}, r"ConcurrentPruner: drawn_share: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_way_out_and_leaves_the_model_alone(mistake: str) -> None:
    spoil, make, options, complaint = MISTAKES[mistake]
    model = network()
    if spoil is not None:
        spoil(model)
    before = seen(model)
    optimizer = (make or (lambda model: torch.optim.SGD(model.parameters(), lr=0.1)))(model)
    with pytest.raises(LayerpruneError, match=complaint) as error:
        ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, **{"total_steps": 10, "nu": 0.1} | options)
    assert "\n" not in str(error.value) and "settings." not in str(error.value)
    assert seen(model) == before


def validation() -> float:
    return 1.0


COUNTS, DEPTH = r"will be called, a whole number of at least 1, not ", r"number of sections to keep, 0 or more, not "
OF_ANOTHER_KIND: list[tuple[dict[str, Any], str]] = [
    ({"target_macs": "0.5"}, r"target_macs is a share of the model's, .* at most 1, not '0.5'"),
    ({"target_macs": True}, r"target_macs is a share of the model's, .* at most 1, not True"),
    ({"target_memory": [0.5]}, r"target_memory is a share of the model's, .*, not \[0.5\]"),
    ({"target_params": "half"}, r"or a whole number of parameters above 1, not 'half'"),
    ({"target_depth": "2"}, DEPTH + "'2'"),
    ({"target_depth": float("nan")}, DEPTH + "nan"),
    ({"target_depth": float("inf")}, DEPTH + "inf"),
    ({"target_depth": True}, DEPTH + "True"),
    ({"max_loss_increase": "a", "validate": validation}, r"may rise, above 0, not 'a'"),
    ({"max_loss_increase": 0.1, "validate": 3}, r"validate is a function that returns the validation loss, not 3"),
    ({"nu": 0.1, "total_steps": "30"}, COUNTS + "'30'"),
    ({"nu": 0.1, "total_steps": torch.tensor(30)}, COUNTS + "Tensor"),
    ({"nu": 0.1, "total_steps": 2.5}, COUNTS + "2.5"),
    ({"nu": 0.1, "total_steps": float("inf")}, COUNTS + "inf"),
    ({"nu": 0.1, "warmup_steps": -1}, r"warmup_steps is how many steps theta waits, .* 0 or more, not -1"),
    ({"nu": 0.1, "warmup_steps": 2.5}, r"warmup_steps is how many steps theta waits, .* 0 or more, not 2.5"),
    ({"nu": 0.1, "on_removal": None}, r"on_removal is a function of a list of names, not None"),
    ({"nu": 0.1, "scaler": "x"}, r"scaler is the GradScaler of mixed precision, or None, not 'x'"),
    ({"nu": 0.1, "seed": "a"}, r"seed is a whole number, not 'a'"),
    ({"nu": 0.1, "cost": "mac"}, r"cost is one of uniform, macs, params, latency, memory, not 'mac'"),
    ({"nu": 0.1, "cost": ""}, r"cost is one of .*, not ''"),
]


@pytest.mark.parametrize(("options", "complaint"), OF_ANOTHER_KIND, ids=[each[1] for each in OF_ANOTHER_KIND])
def test_an_argument_of_another_kind_is_named_with_what_is_wanted(options: dict[str, Any], complaint: str) -> None:
    model = network()
    before, found = seen(model), find_sections(model, EXAMPLE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(LayerpruneError, match=f"^ConcurrentPruner: .*{complaint}$"):
        ConcurrentPruner(model, found, optimizer, **{"total_steps": 10} | options)
    assert seen(model) == before


OPTIMIZERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "None": lambda optimizer: None,
    "dict": lambda optimizer: {"first": optimizer},
    "set": lambda optimizer: {optimizer},
    "generator": lambda optimizer: (each for each in [optimizer]),
    "StepLR": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    "the class SGD": lambda optimizer: torch.optim.SGD,
}


@pytest.mark.parametrize("given", OPTIMIZERS)
def test_what_is_no_optimizer_is_named(given: str) -> None:
    model = network()
    found, optimizer = find_sections(model, EXAMPLE), torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        LayerpruneError, match=f"optimizer is an optimizer of torch.optim, or a list of them, not {given}$"
    ):
        ConcurrentPruner(model, found, OPTIMIZERS[given](optimizer), total_steps=9, nu=0.1)


def test_sections_are_all_that_find_sections_returned() -> None:
    model = network()
    found, optimizer = find_sections(model, EXAMPLE), torch.optim.SGD(model.parameters(), lr=0.1)
    for given, name in ((None, "None"), (list(found), "list"), (found[:2], "tuple"), (optimizer, "SGD")):
        complaint = rf"sections are what find_sections returns; sections.but\(.*\) keeps some of them, not {name}$"
        with pytest.raises(LayerpruneError, match="^ConcurrentPruner: " + complaint):
            ConcurrentPruner(model, given, found, total_steps=9, nu=0.1)
        with pytest.raises(LayerpruneError, match="^prune_by_scores: " + complaint):
            prune_by_scores(model, given, "magnitude", keep=1)
    with pytest.raises(LayerpruneError, match=r"^ConcurrentPruner: model is a module, not None"):
        ConcurrentPruner(None, found, optimizer, total_steps=9, nu=0.1)


@pytest.mark.parametrize("unit", ["macs", "params", "latency", "memory"])
def test_a_share_of_1_removes_nothing(unit: str) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"total_steps": 20, "check_interval": 5, "theta_lr": 1.0, f"target_{unit}": 1}
    pruner = ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, **options)
    for _ in range(20):
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert pruner.consolidated and pruner.removed == []


def test_an_early_export_and_a_second_step_are_refused_and_change_nothing() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = ConcurrentPruner(model, find_sections(model, EXAMPLE), optimizer, total_steps=10, nu=0.1)
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
    pruner.step()
    before, state = seen(model), pruner.state_dict()
    with pytest.raises(
        LayerpruneError, match=r"step: no forward pass .* since the last step; call step\(\) once after"
    ):
        pruner.step()
    with pytest.raises(LayerpruneError, match=r"still undecided after 1 steps: go on training .* or call finish\(\)"):
        pruner.export()
    assert seen(model) == before and pruner.state_dict()["steps"] == state["steps"] == 1
    assert torch.equal(pruner.state_dict()["method"]["sums"], state["method"]["sums"])
