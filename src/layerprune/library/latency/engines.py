"""A network made ready to be called: by torch eagerly, compiled by torch.compile, or by onnxruntime.

Eager and compiled networks are copies in evaluation mode, laid out channels last, with weights and inputs in the
precision asked for. Whatever keeps an engine from running a network is one line: a compiler that is not there, a
package, a precision, memory.
"""

import copy
import warnings
from functools import partial
from types import FunctionType
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from layerprune.core import timing
from layerprune.core.timing import Work
from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.library.latency.measured_model import MeasuredModel
from layerprune.library.network_files import reason_of

Engine = Literal["eager", "compiled", "onnxruntime"]
Precision = Literal["fp32", "bf16"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
BACKEND = "inductor"
"""torch.compile's own."""


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


def _onnxruntime(model: MeasuredModel, precision: Precision, batch: int, device: torch.device, threads: int) -> Work:
    if precision != "fp32":
        raise LayerpruneError(f"onnxruntime is measured in fp32 only, not in {precision}")
    if device.type != "cpu":
        raise LayerpruneError("onnxruntime is measured on CPUs only")
    opened = onnx_files.session(model.onnx, threads)
    fed = {opened.get_inputs()[0].name: model.inputs(batch, DTYPES[precision], device).numpy()}
    return partial(opened.run, None, fed)


_PREPARING = {"eager": _eager, "compiled": _compiled, "onnxruntime": _onnxruntime}


def _ready(model: MeasuredModel, precision: Precision, device: torch.device) -> nn.Module:
    copied = copy.deepcopy(model.module)
    if "eval" not in vars(copied):  # a program of torch.export is in evaluation mode for good
        copied.eval()
    return copied.to(device, DTYPES[precision], memory_format=torch.channels_last)
