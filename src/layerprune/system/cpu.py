"""The CPU: its name, and which of its instructions torch's kernels may use, which is settled before torch is imported.

Kernels for AVX-512 sum in another order than those for AVX2, so the same run differs in its last digits, and after some
epochs in its first, between a machine that has AVX-512 and one that has not. Restricted to AVX2, which nearly every x86
machine has, two CPUs of one maker made the same numbers, and the newer one is somewhat slower than it could be. From
maker to maker numbers differ all the same: the libraries for products of matrices look at that too.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

CpuKernels = Literal["native", "avx2"]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What torch's own kernels and those of oneDNN, its library for convolutions, read in the environment."""


def choose(kernels: CpuKernels) -> None:
    """Restrict torch, which must not be imported yet, to `kernels`; the environment takes precedence.

    Does nothing where the CPU has no AVX2 (forcing it there would end the process), or if torch has already been
    imported.
    """
    if kernels == "avx2" and "torch" not in sys.modules and "avx2" in _cpu_flags():
        for name, value in AVX2.items():
            os.environ.setdefault(name, value)


def _cpu_flags() -> set[str]:
    """Instruction sets by the system's names; empty if it does not report them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def cpu_name() -> str:
    """The processor's model, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
