"""Energy used by this process, estimated where the machine counts it and None where it does not: nothing is invented.

On a CPU: RAPL's counters of packages and memory (Linux, /sys/class/powercap, which often only root may read), of which
the process gets its share of the CPU time that the whole machine was busy. On an NVIDIA GPU: NVML's counter of the
board, for a process that has the board to itself.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

POWERCAP = Path("/sys/class/powercap")
CPU_TIMES = Path("/proc/stat")
NVML = "libnvidia-ml.so.1"
SECONDS_BETWEEN_LOOKS = 30.0
"""RAPL's counters begin again at 0, the smallest after 65 kJ: minutes under full load."""


class Counter(Protocol):
    """Something that counts energy from when it was made."""

    def joules(self) -> float | None:
        """Joules so far; None if unknown. Asked at least every SECONDS_BETWEEN_LOOKS."""


class Meter:
    """The energy used in a context, known once the context has ended."""

    joules: float | None = None


@contextmanager
def metered(device: torch.device, alone: bool) -> Iterator[Meter]:
    """Measure while the context lasts; `alone`: no other process computes on the GPU meanwhile."""
    meter, counter = Meter(), _counter(device, alone)
    if counter is None:
        yield meter
        return
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(counter, over), daemon=True)
    looking.start()
    try:
        yield meter
    finally:
        over.set()
        looking.join()
        meter.joules = _told(counter)


def _look(counter: Counter, over: threading.Event) -> None:
    while not over.wait(SECONDS_BETWEEN_LOOKS):
        _told(counter)


def _told(counter: Counter) -> float | None:
    try:
        return counter.joules()
    except (OSError, ValueError):
        return None


def _counter(device: torch.device, alone: bool) -> Counter | None:
    try:
        if device.type == "cuda":
            return Board(str(torch.cuda.get_device_properties(device).uuid)) if alone else None
        return Packages()
    except (OSError, ValueError, AttributeError):  # no such file, right, library, or function in it
        return None


# --- CPU --------------------------------------------------------------------------------------------------------------


class Packages:
    """This process's share of what RAPL counts. Raises OSError where nothing may be read."""

    def __init__(self) -> None:
        folders = sorted(each.parent for each in POWERCAP.glob("*/name") if _is_counted(each))
        if not folders:
            raise OSError(f"{POWERCAP}: no counter of a package")
        self.zones = [_Zone(folder) for folder in folders]
        self.own, self.busy = _own_seconds(), _busy_seconds()

    def joules(self) -> float | None:
        spent = sum(zone.joules() for zone in self.zones)
        own, busy = _own_seconds() - self.own, _busy_seconds() - self.busy
        return spent * min(1.0, own / busy) if busy > 0 else None


def _is_counted(name: Path) -> bool:
    """Packages, and memory, which they do not include; not cores, which they do, nor the platform, which has both."""
    return name.read_text().strip().startswith(("package", "dram"))


class _Zone:
    """One of RAPL's counters, in microjoules, over its fresh starts."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "energy_uj"
        self.range = int((folder / "max_energy_range_uj").read_text())
        self.last, self.total = self._now(), 0

    def joules(self) -> float:
        now = self._now()
        self.total += (now - self.last) % self.range
        self.last = now
        return self.total / 1e6

    def _now(self) -> int:
        return int(self.file.read_text())


def _own_seconds() -> float:
    """CPU time of this process, and of those that it started and has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _busy_seconds() -> float:
    """CPU time that the whole machine has spent on anything."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, CPU_TIMES.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


# --- GPU --------------------------------------------------------------------------------------------------------------


class Board:
    """What NVML counts of a GPU's board. Raises OSError where it has no such counter."""

    def __init__(self, uuid: str) -> None:
        self.nvml = ctypes.CDLL(NVML)
        _check(self.nvml.nvmlInit_v2())
        self.handle = ctypes.c_void_p()
        name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        _check(self.nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self.handle)))
        self.first = self._now()

    def joules(self) -> float:
        return self._now() - self.first

    def _now(self) -> float:
        millijoules = ctypes.c_ulonglong()
        _check(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle, ctypes.byref(millijoules)))
        return millijoules.value / 1000


def _check(status: int) -> None:
    if status != 0:
        raise OSError(f"NVML: status {status}")
