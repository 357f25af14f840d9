"""onnxruntime with an ONNX file in a process of its own, which `onnx_passes.py` starts; without torch, for speed.

It answers in lines of JSON: with the file's inputs once it is open, and then to each line "BATCH CALLS" with the
seconds that so many passes took; or with {"error": ...}, its last. An answer that takes too long ends it with the
status 1, whatever onnxruntime is at.

    python onnx_process.py FILE THREADS LIMIT
"""

import faulthandler
import json
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
"""Types of input that are fed, by onnxruntime's names."""


def main() -> None:
    path, threads, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    try:
        faulthandler.dump_traceback_later(limit, exit=True)
        opened = _open(path, threads)
        _answer([[each.type, each.shape] for each in opened.get_inputs()])
        for line in sys.stdin:
            faulthandler.dump_traceback_later(limit, exit=True)
            batch, calls = map(int, line.split())
            _answer(_seconds(opened, batch, calls))
    except Exception as error:  # onnxruntime raises many kinds
        told = str(error).strip().splitlines() or [type(error).__name__]
        _answer({"error": f"not accepted by onnxruntime: {told[0][:160]}"})


def _answer(told: object) -> None:
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(told), flush=True)


def _open(path: str, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _seconds(opened: "onnxruntime.InferenceSession", batch: int, calls: int) -> float:
    """Of so many passes with a batch of noise, or of zeros where inputs are indices."""
    (taken,) = opened.get_inputs()
    shape = (batch, *taken.shape[1:])
    dtype = TYPES[taken.type]
    fed = {taken.name: np.random.default_rng(0).random(shape, dtype) if dtype is np.float32 else np.zeros(shape, dtype)}
    began = time.perf_counter()
    for _ in range(calls):
        opened.run(None, fed)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
