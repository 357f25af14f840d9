"""The machine on which latency is measured: its model and clock, and that nothing else is measured on it."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from layerprune.system import files
from layerprune.system.cpu import cpu_name
from layerprune.system.processes import output_of

IDLE_LOAD = 0.5
"""Mean number of running processes above which the machine is not called idle."""
BUSY = "another process is measuring; two at once would disturb each other"

Say = Callable[[str], None]


def hardware(device: torch.device) -> str:
    """The device's model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def clock(device: torch.device) -> str:
    """The clock at this moment, and its maximum where that is known: `2596 MHz`, `2100 of 3500 MHz`; may be empty."""
    now, most = _gpu_clocks(device) if device.type == "cuda" else _cpu_clocks()
    if now is None:
        return f"at most {most:.0f} MHz" if most else ""
    return f"{now:.0f} of {most:.0f} MHz" if most else f"{now:.0f} MHz"


def _cpu_clocks() -> tuple[float | None, float | None]:
    """MHz of the fastest core now, and of the first at most."""
    told = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    most = _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")).strip()
    return max(map(float, told), default=None), int(most) / 1000 if most.isdigit() else None


def _gpu_clocks(device: torch.device) -> tuple[float | None, float | None]:
    """MHz now and at most, as nvidia-smi tells them."""
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    asked = ["--query-gpu=clocks.current.sm,clocks.max.sm", "--format=csv,noheader,nounits", f"--id={identity}"]
    told = re.findall(r"\d+", output_of("nvidia-smi", *asked))
    return (float(told[0]), float(told[1])) if len(told) == 2 else (None, None)


def free_bytes() -> int | None:
    """Memory that the CPU's processes can still take without swapping; None where the system does not tell."""
    told = re.search(r"^MemAvailable:\s*(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return 1024 * int(told.group(1)) if told else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextmanager
def alone(threads: int, say: Say, *locks: Path) -> Iterator[None]:
    """Compute with that many threads for a while, if nobody else measures here; warns if the machine is busy.

    `locks` are held besides the machine's own. Raises LayerpruneError while another process measures.
    """
    machines_own = Path(tempfile.gettempdir()) / f"layerprune-latency-{os.getuid()}.lock"
    with ExitStack() as held:
        for lock in (*locks, machines_own):
            held.enter_context(files.exclusive(lock, BUSY))
        _warn_when_busy(say)
        held.enter_context(computing_with(threads))
        yield


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with that many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warn_when_busy(say: Say) -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > IDLE_LOAD:
        say(f"the machine is not idle (load {load:.1f} in the last minute): timings taken now are unreliable")
