"""Restricting torch's CPU kernels, so that machines with and without AVX-512 make the same numbers."""

import os
import sys
from pathlib import Path

import pytest
from conftest import run_process

from layerprune.suite import record
from layerprune.system import cpu, paths
from layerprune.system.paths import RunKey

RUN = ["--preset", "tiny", "--dataset", "digits", "--arch", "lenet-300-100", "--method", "dense"]
NOT_X86 = "avx2" not in cpu._cpu_flags()


@pytest.fixture
def before_torch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has not imported torch, with nothing in the environment."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in cpu.AVX2:
        monkeypatch.setenv(name, "")  # so that what `choose` sets is taken back after the test
        monkeypatch.delenv(name)
    return monkeypatch


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in cpu.AVX2 if name in os.environ}


def test_native_restricts_nothing(before_torch: pytest.MonkeyPatch) -> None:
    cpu.choose("native")
    assert environment() == {}


def test_a_cpu_without_avx2_is_left_alone(before_torch: pytest.MonkeyPatch) -> None:
    before_torch.setattr(cpu, "_cpu_flags", lambda: {"sse4_2"})
    cpu.choose("avx2")
    assert environment() == {}


def test_the_environment_goes_before_the_preset(before_torch: pytest.MonkeyPatch) -> None:
    before_torch.setattr(cpu, "_cpu_flags", lambda: {"avx2", "avx512f"})
    before_torch.setenv("ATEN_CPU_CAPABILITY", "default")
    cpu.choose("avx2")
    assert environment() == {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@pytest.mark.skipif(NOT_X86, reason="the CPU has no AVX2")
def test_a_run_says_which_kernels_it_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cpu.AVX2:
        monkeypatch.delenv(name, raising=False)
    preset = root / "config" / "tiny.yaml"
    preset.write_text(preset.read_text() + "\nresources: {cpu_kernels: avx2}\n")
    # Chosen before torch is loaded, so in a process of its own.
    assert run_process([sys.executable, "-m", "layerprune", "run", *RUN], cwd=root).code == 0
    made = record.read(paths.record(RunKey("tiny", "digits", "lenet-300-100", "dense", "default", 0)))
    assert made.provenance.cpu_kernels == "AVX2"
