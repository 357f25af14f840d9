"""What is measured, and how it is made ready to be called: by torch eagerly, compiled, as a graph, or by onnxruntime.

Eager, compiled and graphed networks are copies in evaluation mode, laid out channels last, with weights and inputs in
the precision asked for. Whatever keeps an engine from running a network is one line: a compiler that is not there, a
package, a precision, memory.
"""

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layerprune.core import timing
from layerprune.core.timing import Work
from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.library.latency import onnx_passes
from layerprune.library.latency.cuda_graphs import Graphed
from layerprune.library.multiply_adds import MultiplyAdds
from layerprune.library.network_files import in_evaluation, reason_of

Engine = Literal["eager", "compiled", "graphed", "onnxruntime"]
Precision = Literal["fp32", "bf16"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
BACKEND = "inductor"
"""torch.compile's own."""
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
    def onnx(self) -> bytes:
        """A module as what onnxruntime runs."""
        return onnx_files.as_bytes(self.module, self.inputs(1, torch.float32, torch.device("cpu")))

    @cached_property
    def _largest_and_macs(self) -> tuple[int, int | None]:
        if self.module is None:
            return 0, None
        device = next((each.device for each in self.module.parameters()), torch.device("cpu"))
        x, largest, counter = self.inputs(2, self.dtype, device), _Largest(), MultiplyAdds(of_shapes=False)
        try:
            with in_evaluation(self.module), torch.no_grad(), counter, largest:
                self.module(x)
        except Exception:  # whoever calls it next says why it cannot be called
            return 0, None
        return largest.bytes // 2, counter.total // 2

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


# --- engines --------------------------------------------------------------------------------------------------------


def prepare(
    model: MeasuredModel, engine: Engine, precision: Precision, batch: int, device: torch.device, threads: int
) -> Work:
    """A call of a network with a batch of inputs, which has been made once.

    Raises LayerpruneError where the engine cannot run it so.
    """
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the engines', of their own insides
            work = _PREPARING[engine](model, precision, batch, device, threads)
            timing.seconds(work, device)
    except LayerpruneError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise LayerpruneError("does not fit into memory") from None
    except Exception as error:  # compilers and engines raise many kinds
        raise LayerpruneError(reason_of(error)) from None
    return work


def try_out(engine: Engine, precision: Precision, device: torch.device, threads: int) -> None:
    """Raises LayerpruneError where an engine cannot run even the smallest network in this precision here."""
    prepare(MeasuredModel("", nn.Linear(1, 1), (1,)), engine, precision, 2, device, threads)


def _eager(model: MeasuredModel, precision: Precision, batch: int, device: torch.device, threads: int) -> Work:
    return partial(_ready(model, precision, device), model.inputs(batch, DTYPES[precision], device))


def _compiled(model: MeasuredModel, precision: Precision, batch: int, device: torch.device, threads: int) -> Work:
    module = _ready(model, precision, device)

    def forward(x: Tensor) -> Tensor:
        return module(x)

    # Dynamo keeps what it made by code object, and looks through all of it in every call: each network gets its own.
    code = forward.__code__.replace(co_name=f"forward_{id(module)}")
    own = FunctionType(code, globals(), None, None, forward.__closure__)
    compiled = torch.compile(own, dynamic=False, backend=BACKEND)
    return partial(compiled, model.inputs(batch, DTYPES[precision], device))


def _graphed(model: MeasuredModel, precision: Precision, batch: int, device: torch.device, threads: int) -> Work:
    if device.type != "cuda":
        raise LayerpruneError("CUDA graphs need a GPU")
    with torch.cuda.device(device):
        return Graphed(_eager(model, precision, batch, device, threads))


def _onnxruntime(model: MeasuredModel, precision: Precision, batch: int, device: torch.device, threads: int) -> Work:
    if precision != "fp32":
        raise LayerpruneError(f"onnxruntime is measured in fp32 only, not in {precision}")
    if device.type != "cpu":
        raise LayerpruneError("onnxruntime is measured on CPUs only")
    if model.file is not None:
        passes = onnx_passes.Passes(model.file, batch, threads)
        passes()
        return passes
    opened = onnx_files.session(model.onnx, threads)
    fed = {opened.get_inputs()[0].name: model.inputs(batch, DTYPES[precision], device).numpy()}
    return partial(opened.run, None, fed)


_PREPARING = {"eager": _eager, "compiled": _compiled, "graphed": _graphed, "onnxruntime": _onnxruntime}


def _ready(model: MeasuredModel, precision: Precision, device: torch.device) -> nn.Module:
    copied = copy.deepcopy(model.module)
    if "eval" not in vars(copied):  # a program of torch.export is in evaluation mode for good
        copied.eval()
    return copied.to(device, DTYPES[precision], memory_format=torch.channels_last)
