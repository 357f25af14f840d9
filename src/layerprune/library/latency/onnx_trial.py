"""The first pass of an ONNX file, in a process of its own: a stranger's file may never end, or end the process."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from layerprune.errors import LayerpruneError

MOST_SECONDS = 120.0
"""A file whose first pass takes longer is not measured: measuring it makes thirty."""

# Without torch, whose import takes longer than most passes.
_PASS = """
import io, sys
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = int(sys.argv[2])
opened = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
opened.run(None, {opened.get_inputs()[0].name: numpy.load(io.BytesIO(sys.stdin.buffer.read()))})
"""


def make_first_pass(path: Path, batch: np.ndarray, threads: int) -> None:
    """Raises LayerpruneError where the pass does not end in time, or onnxruntime crashes on it.

    What else is wrong with a file onnxruntime raises again, where it is measured.
    """
    content = io.BytesIO()
    np.save(content, batch)
    # With -P modules are not looked for in the folder where one stands, which may be the stranger's.
    words = [sys.executable, "-P", "-c", _PASS, str(path), str(threads)]
    try:
        done = subprocess.run(words, input=content.getvalue(), capture_output=True, timeout=MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise LayerpruneError(f"a pass takes more than {MOST_SECONDS:g} seconds") from None
    if done.returncode < 0:
        raise LayerpruneError(f"onnxruntime crashes on it ({signal.Signals(-done.returncode).name})")
