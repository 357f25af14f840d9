"""What is measured: a module or an ONNX file, what it takes, what it costs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from layerprune.library import onnx_files
from layerprune.library.network_files import in_evaluation

TENSORS_AT_ONCE = 3
"""As many tensors as the largest one are taken to be in memory at the same time: a layer's input, output and branch."""


@dataclass(frozen=True)
class MeasuredModel:
    """A network by name; `shape` is one input's, without the batch. `file` is an ONNX file, whose `module` is None."""

    name: str
    module: nn.Module | None
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    file: Path | None = None

    def inputs(self, batch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Noise; zeros where inputs are indices."""
        if not self.dtype.is_floating_point:
            return torch.zeros(batch, *self.shape, dtype=self.dtype, device=device)
        return torch.rand(batch, *self.shape, device=device).to(dtype)

    @cached_property
    def onnx(self) -> bytes | Path:
        """What onnxruntime runs."""
        return self.file or onnx_files.as_bytes(self.module, self.inputs(1, torch.float32, torch.device("cpu")))

    @cached_property
    def _largest_and_macs(self) -> tuple[int, int | None]:
        if self.module is None:
            return 0, None
        device = next((each.device for each in self.module.parameters()), torch.device("cpu"))
        x, largest, counter = self.inputs(2, self.dtype, device), _Largest(), FlopCounterMode(display=False)
        try:
            with in_evaluation(self.module), torch.no_grad(), counter, largest:
                self.module(x)
        except Exception:  # whoever calls it next says why it cannot be called
            return 0, None
        return largest.bytes // 2, counter.get_total_flops() // 4

    @property
    def macs(self) -> int | None:
        """Multiply-adds of one input; None of an ONNX file, which does not tell."""
        return self._largest_and_macs[1]

    def bytes_needed(self, batch: int) -> int:
        """About how much memory the tensors of a forward pass take; 0 of an ONNX file."""
        return TENSORS_AT_ONCE * batch * self._largest_and_macs[0]


class _Largest(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor that is made; views of others are none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
            if made.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, made.numel() * made.element_size())
        return made
