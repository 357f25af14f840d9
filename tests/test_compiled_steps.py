"""Compiled steps (engine: compiled) against eager ones, and that one graph serves all sections that are alike."""

import gc
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import CPU, a_run, a_trainer, random_data, source
from together import run_together
from torch import Tensor, nn
from torch._inductor.cpu_vec_isa import pick_vec_isa

from layerprune.core.methods import families
from layerprune.core.networks.sections import CLOSED, Gate, Section, SectionedNetwork
from layerprune.core.training import compiled
from layerprune.core.training.compiled import CompiledSections
from layerprune.core.training.engine import autocast, forward_of
from layerprune.core.training.loop import Trainer
from layerprune.suite.run.train import train
from layerprune.system.process_group import ProcessGroup

TRAINED = sorted(slug for slug, family in families().items() if family == "trained")
SETTINGS: dict[str, dict[str, Any]] = {
    "gated": {"warmup": "6it", "nu": 3.0, "theta_lr": 2.0, "check_interval": 4, "checks": 1},
    "epsilon-resnet": {"start": 0.4, "check_interval": 2},
}
GATED: dict[str, dict[str, Any]] = {
    "confirm": {"confirm": 2},
    "network price": {"nu": 18.0, "cost_scale": "network"},
    "spike and slab": {"weight_prior": "spike-and-slab", "kappa": 0.01},
    "batch gates": {"gates": "batch", "estimator": "finite_difference", "drawn_share": 1.0},
}
"""Settings of gated training, each beside the others of SETTINGS."""
RUNS = [(method, SETTINGS.get(method)) for method in TRAINED]
RUNS += [("gated", SETTINGS["gated"] | settings) for settings in GATED.values()]
needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
BATCH = 8


def a_convolution(width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


def a_chain(sections: int = 3, width: int = 8) -> SectionedNetwork:
    """Sections of convolutions, all alike."""
    torch.manual_seed(0)
    chain = [
        Section(
            f"section{index}", nn.Sequential(*a_convolution(width), nn.ReLU(), *a_convolution(width)), None, nn.ReLU()
        )
        for index in range(sections)
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    network = SectionedNetwork("chain", (3, 8, 8), nn.Conv2d(3, width, 3, padding=1), chain, head)
    return network.to(memory_format=torch.channels_last).train()


def a_batch(count: int = BATCH) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=source(1))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are made, and then computed operation by operation: no C++ compiler is needed."""
    monkeypatch.setattr(compiled, "_how", lambda on_gpu: {"backend": "eager"})
    compiled._graph.cache_clear()
    yield
    compiled._graph.cache_clear()


# --- the same numbers -------------------------------------------------------------------------------------------


@needs_a_compiler
@pytest.mark.parametrize(("method", "settings"), RUNS, ids=[*TRAINED, *GATED])
def test_they_agree_with_eager_ones_in_every_method(method: str, settings: dict[str, Any] | None) -> None:
    """Through removals and ragged batches."""
    losses, kept, weights = [], [], []
    for engine in ("eager", "compiled"):
        trained = train(a_run(method, settings=settings, lr=0.03, duration="4ep", engine=engine))
        losses.append([row["train_loss"] for row in trained.progress.rows[1:] if "train_loss" in row])
        kept.append(trained.network.keep())
        weights.append(trained.network.state_dict())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert kept[0] == kept[1] and (0 in kept[0] or method not in SETTINGS)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


def what_two_steps_leave(engine: str, precision: str, gated: bool) -> list[Tensor]:
    """Logits, gradients and running statistics of two passes, a section lost between them; float64 the truth."""
    network, x = a_chain(), a_batch()
    if precision == "float64":
        network, x = network.double(), x.double()
    forward = forward_of(network, engine, BATCH)
    gates = torch.rand(3, BATCH, 1, generator=source(2)).requires_grad_() if gated else None
    for _ in range(2):
        with autocast(precision, CPU):
            logits = forward(x, gates)
        logits.double().square().sum().backward()
        network.sections[0].remove_branch()
    gradients = [each.grad for each in network.parameters()] + ([gates.grad] if gated else [])
    return [each.detach().double() for each in (logits, *gradients, *network.buffers())]


@needs_a_compiler
@pytest.mark.parametrize("gated", [False, True])
def test_they_agree_on_convolutions_and_running_statistics(gated: bool) -> None:
    found = (what_two_steps_leave(engine, "fp32", gated) for engine in ("eager", "compiled"))
    for eager, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-3 * float(eager.abs().max()))


@needs_a_compiler
@pytest.mark.parametrize("gated", [False, True])
def test_in_bf16_they_are_as_exact_as_eager_ones(gated: bool) -> None:
    ways = ("eager", "float64"), ("eager", "bf16"), ("compiled", "bf16")
    for truth, eager, ours in zip(*(what_two_steps_leave(*way, gated) for way in ways), strict=True):
        assert (ours - truth).norm() <= 3 * (eager - truth).norm() + 1e-3 * truth.norm()
        assert (eager - truth).norm() <= 0.2 * truth.norm()


IN_A_PROCESS = """
import torch, test_compiled_steps as here
torch.set_num_threads(1)
for eager, ours in zip(*(here.what_two_steps_leave(engine, "fp32", False) for engine in ("eager", "compiled"))):
    torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-3 * float(eager.abs().max()))
"""


def test_graphs_are_stored_under_the_width_of_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert compiled._how(on_gpu=False)["options"]["cpp.simdlen"] == 0
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert compiled._how(on_gpu=False)["options"]["cpp.simdlen"] == pick_vec_isa().bit_width() in (0, 256)


@needs_a_compiler
@pytest.mark.long
def test_a_process_of_fewer_instructions_takes_no_graph_that_another_has_stored(tmp_path: Path) -> None:
    """Vectors of other widths: the loops of one compute wrong numbers with those of the other, or end the process."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("ATEN_CPU_CAPABILITY", None)
    for restricted in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"}):
        code = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS], env=environment | restricted, capture_output=True, text=True
        )
        assert code.returncode == 0, (restricted, code.stderr[-2000:])


def mean_gradients(group: ProcessGroup) -> list[bool]:
    """Whether each gradient over two processes is the same by both engines."""
    compiled._how = lambda on_gpu: {"backend": "eager"}
    found = []
    for engine in ("eager", "compiled"):
        network = a_chain(2)
        forward = forward_of(network, engine, BATCH, group, skips_sections=True)
        forward(a_batch() + group.rank, [CLOSED, None]).square().sum().backward()
        found.append([each.grad for each in network.parameters() if each.grad is not None])
    assert compiled._graph.cache_info().currsize == 1
    return [torch.equal(eager, ours) for eager, ours in zip(*found, strict=True)]


def test_they_agree_in_two_processes(tmp_path: Path) -> None:
    texts = run_together(mean_gradients, tmp_path).texts
    assert texts[0] == texts[1] and "True" in texts[0] and "False" not in texts[0]


def losses_of_steps(device: torch.device, engine: str, removed_after: int) -> list[float]:
    """Losses of a gated training of one epoch that loses a section on its way."""
    trainer = a_losing_trainer(device, engine)
    losses = []
    for number, (x, y) in enumerate(trainer.job.batches.epoch(0)):
        losses.append(trainer._step(x, y).item())
        if number == removed_after:
            trainer._remove([1])
    assert trainer.network.keep() == [1, 0, 1, 1]
    return losses


def a_losing_trainer(device: torch.device, engine: str, **settings: Any) -> Trainer:
    settings = {"consolidate_at": 1.0, "nu": 0.0} | settings
    trainer = a_trainer(
        replace(a_run("gated", random_data().to(device), settings=settings, engine=engine), device=device)
    )
    trainer.progress.removed_step = [None] * 4
    return trainer


@pytest.mark.gpu
def test_they_agree_with_eager_ones_on_a_gpu() -> None:
    eager, ours = (losses_of_steps(torch.device("cuda"), engine, 1) for engine in ("eager", "compiled"))
    assert ours == pytest.approx(eager, rel=1e-3)


# --- one graph for all that are alike -----------------------------------------------------------------------------


def test_a_compiled_step_is_really_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, called = [], []

    def compile(function: Any, **how: Any) -> Any:
        asked.append(how)
        return lambda *inputs: called.append(inputs[0]) or function(*inputs)

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(compiled, "_how", lambda on_gpu: {})
    compiled._graph.cache_clear()
    losses_of_steps(CPU, "compiled", removed_after=1)
    compiled._graph.cache_clear()
    assert len(asked) == 1 and not asked[0]["dynamic"]
    assert len(called) == 4 + 4 + 3  # and none in the last batch, which is smaller
    losses_of_steps(CPU, "eager", removed_after=1)
    assert len(asked) == 1


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("settings", [{}, {"estimator": "disarm"}, {"drawn_share": 0.5}], ids=str)
def test_neither_a_removal_nor_a_smaller_batch_compiles_anything(settings: dict[str, Any]) -> None:
    trainer = a_losing_trainer(CPU, "compiled", **settings)
    batches = list(trainer.job.batches.epoch(0))
    trainer._step(*batches[0])
    with torch.compiler.set_stance("fail_on_recompile"):
        trainer._remove([0])
        for x, y in batches[1:]:
            trainer._step(x, y)
    assert len(batches[-1][0]) < len(batches[0][0])


@pytest.mark.usefixtures("traced")
def test_nor_does_another_network_of_such_sections() -> None:
    for number in range(2):
        network = a_chain()
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            forward_of(network, "compiled", BATCH)(a_batch(), None).sum().backward()
        network.sections[0].remove_branch()
        del network
        gc.collect()


@pytest.mark.usefixtures("traced")
def test_a_compilation_would_be_seen() -> None:
    with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError, match="recompile"):
        forward_of(a_chain(), "compiled", BATCH)(a_batch(), None)


@pytest.mark.usefixtures("traced")
def test_every_kind_of_section_has_its_graph() -> None:
    """However many there are: torch.compile gives up on a function after eight graphs."""
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):  # pytest's patch would end with it deleted
        for width in range(1, 11):
            forward_of(a_chain(2, width), "compiled", BATCH)(a_batch(), None)
    assert compiled._graph.cache_info().currsize == 10


@pytest.mark.usefixtures("traced")
def test_what_a_removed_branch_held_is_free() -> None:
    trainer = a_losing_trainer(CPU, "compiled")
    batches = list(trainer.job.batches.epoch(0))
    gone = [weakref.ref(each) for each in trainer.network.sections[0].branch.parameters()]
    trainer._step(*batches[0])
    trainer._remove([0])
    trainer._step(*batches[1])
    gc.collect()
    assert gone and not any(each() is not None for each in gone)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("gate", ["none", "tensor", "function"])
def test_gates_mean_what_they_mean_to_the_section(gate: str) -> None:
    gates: dict[str, Gate] = {
        "none": None,
        "tensor": torch.rand(BATCH, 1, generator=source(3)),
        "function": lambda out: out.detach().abs().mean().view(1, 1),
    }
    network, x = a_chain(1), torch.randn(BATCH, 8, 8, 8, generator=source(4))
    (section,) = network.sections
    expected = section(x, gates[gate])
    assert torch.equal(CompiledSections(network, BATCH)(section, x, gates[gate]), expected)
    assert compiled._graph.cache_info().currsize == 1


@pytest.mark.usefixtures("traced")
def test_what_would_need_a_graph_for_little_is_computed_eagerly() -> None:
    network, x = a_chain(2), torch.randn(BATCH, 8, 8, 8, generator=source(4))
    one, other = network.sections
    compute = CompiledSections(network, BATCH)
    compute(one, x[1:], None)
    compute(one, x, CLOSED)
    with torch.no_grad():
        compute(one, x, None)
    other.remove_branch()
    assert torch.equal(compute(other, x, None), x.relu())
    assert compiled._graph.cache_info().currsize == 0
