"""The most memory that this process held, as the system counts it; None where it does not tell."""

from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin(device: torch.device) -> None:
    """Count from now on: a run whose process trained its parents first is not charged for theirs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        CLEAR.write_text("5")
    except OSError:
        return  # not Linux, or forbidden: then the whole process counts


def largest() -> int | None:
    """Bytes of the machine's memory that the process held at most."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(kilobytes[0]) if kilobytes else None


def largest_on(device: torch.device) -> int | None:
    """Bytes that torch had taken of a GPU at most; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
