"""Commands in forks of a process that has loaded the libraries already, which takes longer than most commands do.

What a command is given is its own: words, folder, environment, no terminal, random numbers. Where the start of a
process is what is tested, what is settled before torch is loaded, or limits of the system, use `conftest.run_process`.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LIBRARIES = ["layerprune.cli", "layerprune.suite.run", "layerprune.core.data.digits", "layerprune.system.process_group"]
LIBRARIES += ["torch._dynamo", "torch.distributed", "pandas", "scipy.stats", "matplotlib.figure"]
LIBRARIES += ["snakemake.cli", "snakemake.workflow"]
"""Building an optimizer imports torch._dynamo, which takes seconds."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LIBRARIES, "pytest"])


def run_module(
    module: str, words: list[str], cwd: Path, environment: dict[str, str], first: Callable[[], None] | None = None
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `python -m MODULE WORDS...`, in a process that does `first` before."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        process = CONTEXT.Process(target=_run, args=(module, words, str(cwd), environment, str(out), str(err), first))
        process.start()
        process.join(580)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"python -m {module} {words}: {err.read_text()}")
        return process.exitcode, out.read_text(), err.read_text()


def _run(
    module: str,
    words: list[str],
    cwd: str,
    environment: dict[str, str],
    out: str,
    err: str,
    first: Callable[[], None] | None,
) -> None:
    if first is not None:
        first()
    for descriptor, path in enumerate(("/dev/null", out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ |= environment
    os.chdir(cwd)
    import numpy
    import torch

    torch.set_num_threads(1)
    torch.seed()
    numpy.random.seed()
    sys.argv, sys.path[0] = ["", *words], cwd
    runpy.run_module(module, run_name="__main__", alter_sys=True)
