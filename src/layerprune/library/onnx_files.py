"""Networks as ONNX, compared with the module in onnxruntime before anything is written. Needs layerprune[onnx].

The size of the batch stays open; input and output are called `input` and `output` (`output_0`, ... if there are
several). An exporter that changes what is computed must not go unnoticed: the numbers of two batch sizes have to agree.
"""

import copy
import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils import _pytree as trees

from layerprune.errors import LayerpruneError
from layerprune.library import network_files
from layerprune.system import files

if TYPE_CHECKING:
    import onnxruntime

CHECKED_BATCHES = (1, 3)
TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest output where that exceeds 1: what float32 can be off by."""


def write(module: nn.Module, path: Path, example_input: Tensor) -> None:
    """Write what a module computes in evaluation as one ONNX file.

    Raises LayerpruneError where the packages are absent, the exporter fails, or the file computes other numbers.
    """
    module, example = _on_cpu(module), example_input.cpu()
    content = as_bytes(module, example)
    _check(module, content, example, path)
    files.write_atomically(path, lambda stream: stream.write(content))


def as_bytes(module: nn.Module, example_input: Tensor) -> bytes:
    """The content of an ONNX file, unchecked. Raises LayerpruneError like `write`."""
    need_packages()
    program = network_files.program_of(module, example_input)
    count = len(program.graph_signature.user_outputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, of its own insides
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: "batch"},),
                input_names=["input"],
                output_names=["output"] if count == 1 else [f"output_{place}" for place in range(count)],
            )
            return made.model_proto.SerializeToString()
    except Exception as error:  # the exporter raises many kinds
        reason = network_files.reason_of(error)
        raise LayerpruneError(f"{type(module).__name__}: cannot be exported to ONNX: {reason}") from None


def session(
    content: bytes | Path, threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> "onnxruntime.InferenceSession":
    """onnxruntime's session of a file or its content. Raises LayerpruneError for what it does not take."""
    need_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what cannot be done is raised; the log would say it again
    source = content if isinstance(content, bytes) else str(content)
    try:
        return onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises many kinds
        name = "the network" if isinstance(content, bytes) else content
        raise LayerpruneError(f"{name}: not accepted by onnxruntime: {network_files.reason_of(error)}") from None


def run(opened: "onnxruntime.InferenceSession", batch: Tensor) -> list[Tensor]:
    """A session's outputs for a batch."""
    fed = {opened.get_inputs()[0].name: batch.numpy()}
    return [torch.from_numpy(each) for each in opened.run(None, fed)]


def need_packages() -> None:
    """Raises LayerpruneError if one is absent."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise LayerpruneError(f"ONNX needs the package {name}: pip install onnx onnxscript onnxruntime") from None


def _on_cpu(module: nn.Module) -> nn.Module:
    """The module, or a copy where its weights are elsewhere: a GPU's own rounding would be taken for a mistake."""
    tensors = [*module.parameters(), *module.buffers()]
    return module if all(each.device.type == "cpu" for each in tensors) else copy.deepcopy(module).cpu()


def _check(module: nn.Module, content: bytes, example: Tensor, path: Path) -> None:
    opened = session(content)
    for size in CHECKED_BATCHES:
        batch = _batch_like(example, size)
        with network_files.in_evaluation(module), torch.no_grad():
            expected = [each for each in trees.tree_leaves(module(batch)) if isinstance(each, Tensor)]
        gap = max(_gap(*pair) for pair in zip(expected, run(opened, batch), strict=True))
        if not gap <= TOLERANCE:
            raise LayerpruneError(
                f"{path}: not written: onnxruntime and {type(module).__name__} differ for a batch of {size}, by "
                f"{gap:.1e} of the largest output"
            )


def _batch_like(example: Tensor, size: int) -> Tensor:
    """Noise of the example's shape, or its own rows where they are no fractions but indices, say."""
    if example.is_floating_point():
        noise = torch.randn(size, *example.shape[1:], generator=torch.Generator().manual_seed(size))
        return noise.to(example.dtype)
    return example[torch.arange(size) % len(example)]


def _gap(expected: Tensor, found: Tensor) -> float:
    """Largest difference, relative to the largest expected number where that exceeds 1; infinite for another shape."""
    if expected.shape != found.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    expected, found = expected.double(), found.double()
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
