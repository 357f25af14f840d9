"""The number format of forward and backward passes."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """bf16: convolutions and products in bfloat16, sums and losses in float32; fp32: nothing changes."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
