"""A small study on the embedded digits for tests of campaigns, and the same numbers without any campaign."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from layerprune.suite import run as running
from layerprune.suite import store
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

PRESET = """
resources: {state_seconds: 0}
training: {duration: 30ep, batch_size: 128, lr: 0.01}
finetune: {duration: 5ep}
data: {download: false}
datasets:
  digits:
    archs: {lenet-300-100: {}}
    methods:
      dense: {}
      gated:
        settings: {nu: 0.05, theta_lr: 0.2, warmup: 4ep, check_interval: 5}
        variants: {nu-0.1: {settings: {nu: 0.1}}}
      random: {settings: {keep: matched}}
      magnitude: {settings: {keep: 1}}
"""
PLAN = """
preset: march
runs:
  - {dataset: digits, arch: lenet-300-100, method: magnitude}
  - {dataset: digits, arch: lenet-300-100, method: [gated, random]}
"""


def run_key(method: str, variant: str = "default", seed: int = 0) -> RunKey:
    return RunKey("march", "digits", "lenet-300-100", method, variant, seed)


DENSE, GATED, RANDOM, MAGNITUDE = map(run_key, ("dense", "gated", "random", "magnitude"))
RUNS = [DENSE, MAGNITUDE, GATED, RANDOM]
"""What the plan makes, in this order."""


def write_study(folder: Path, preset: str = PRESET, plan: str = PLAN) -> Path:
    """A root with this preset `march` and a plan of that name."""
    files.write_text(folder / "config" / "march.yaml", preset)
    files.write_text(folder / "config" / "campaigns" / "march.yaml", plan)
    return folder


def make(keys: Iterable[RunKey]) -> None:
    """Make runs in this process."""
    for key in keys:
        running.run(key, "cpu", 1, lambda *_: None, lambda _: None)


def numbers(keys: Iterable[RunKey]) -> dict[str, dict]:
    """What must be equal whatever happened on the way, of runs that all have records."""
    return {str(key): store.find(key).comparable() for key in keys}


def start_campaign(root: Path, *words: str, plan: str = "march") -> subprocess.Popen:
    """`layerprune campaign` in a process group of its own."""
    command = [sys.executable, "-m", "layerprune", "campaign", plan, "--device", "cpu", "--out", str(root / "out")]
    environment = {**os.environ, "LAYERPRUNE_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *words], env=environment, cwd=root, start_new_session=True, **pipes)


def kill_group(process: subprocess.Popen) -> None:
    """What happens to a machine that is taken away."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


def tree(folder: Path) -> dict[str, bytes]:
    """Results and states below a root, by path; locks are no results."""
    found = [path for part in ("results", "state") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != paths.lock(DENSE).name}
