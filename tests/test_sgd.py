"""The optimizer of trainings: torch's SGD to the bit, without the compiler that torch's imports."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import run_process
from torch import nn

from layerprune.core.training.sgd import SGD


def _trained(kind: type[torch.optim.SGD], **settings: object) -> tuple[list[torch.Tensor], dict]:
    """Weights after five steps, the state stored and read again after the third, and the last state."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    matrices = [each for each in network.parameters() if each.ndim > 1]
    others = [{"params": [each for each in network.parameters() if each.ndim <= 1], "weight_decay": 0.0}]

    def made() -> torch.optim.SGD:
        return kind([{"params": matrices}, *others], lr=0.1, **settings)

    optimizer, images = made(), torch.randn(5, 4, 6)
    for step, batch in enumerate(images):
        if step == 3:
            stored, optimizer = optimizer.state_dict(), made()
            optimizer.load_state_dict(stored)
        optimizer.zero_grad(set_to_none=True)
        network(batch).square().sum().backward()
        optimizer.step()
    return list(network.parameters()), optimizer.state_dict()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_and_states_are_those_of_torch(nesterov: bool, fused: bool) -> None:
    settings = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01, "fused": fused}
    ours, state = _trained(SGD, **settings)
    theirs, expected = _trained(torch.optim.SGD, **settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert state["param_groups"] == expected["param_groups"]
    torch.testing.assert_close(state["state"], expected["state"], rtol=0, atol=0)


@pytest.mark.parametrize("method", ["dense", "gated"])
def test_a_run_does_not_wait_for_the_compiler(root: Path, method: str) -> None:
    command = f"layerprune run --preset quick --dataset digits --arch lenet-300-100 --method {method}".split()
    code = (
        f"import sys; sys.argv = {command}\nfrom layerprune.cli import main\n"
        "try: main()\nfinally: print('torch._dynamo' in sys.modules)"
    )
    done = run_process([sys.executable, "-c", code], cwd=root)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert ": ok," in done.stdout
