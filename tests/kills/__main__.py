"""Kill runs, campaigns and graphs with SIGKILL: `python -m tests.kills [number] [seed] [run|campaign|graph]...`.

A trial draws one of the three by turns and a number of kills, each at a random moment of the time that is left. The
whole process group dies, as with a machine. After the last kill the same command ends in peace, and every record must
hold the numbers of a study that nobody disturbed. Exits with status 1 where one does not.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from layerprune.suite import config, store
from layerprune.system import paths

REPOSITORY = Path(__file__).parents[2]
PRESET = """\
resources: {state_seconds: 0}
training: {duration: 40ep, batch_size: 64, lr: 0.01}
finetune: {duration: 10ep}
data: {download: false}
datasets:
  digits:
    archs: {lenet-300-100: {}}
    methods:
      dense: {}
      gated: {settings: {nu: 0.05, theta_lr: 0.2, warmup: 4ep, check_interval: 5}}
      random: {settings: {keep: matched}}
      magnitude: {settings: {keep: 1}}
"""
PLAN = "preset: march\nruns: [{dataset: digits, arch: lenet-300-100, method: [dense, gated, random, magnitude]}]\n"
PYTHON = [sys.executable, "-m"]
RUN = [*PYTHON, "layerprune", "run", "--preset", "march", "--dataset", "digits", "--arch", "lenet-300-100", "--method"]
SNAKEMAKE = [*PYTHON, "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1", "--rerun-incomplete"]
CHOICE = ["--config", "preset=march"]


@dataclass(frozen=True)
class Way:
    """A command that makes runs, what frees its folder after a kill, and which of the runs it makes."""

    command: list[str]
    methods: list[str]
    before: list[str] = field(default_factory=list)


WAYS = {
    "run": Way([*RUN, "random"], ["dense", "gated", "random"]),
    "campaign": Way(
        [*PYTHON, "layerprune", "campaign", "march", "--minutes", "10", "--device", "cpu", "--jobs", "1", "--fill"],
        ["dense", "gated", "random", "magnitude"],
    ),
    "graph": Way(
        [*SNAKEMAKE, *CHOICE],
        ["dense", "gated", "random", "magnitude"],
        [*SNAKEMAKE, "--unlock", *CHOICE],
    ),
}


def main(words: list[str]) -> int:
    """Try so many trials (12 unless told otherwise), drawn from a seed (0), by turns of these ways (all)."""
    number, seed = (int(word) for word in (words + ["12", "0"][len(words) :])[:2])
    ways = words[2:] or list(WAYS)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        expected, seconds = undisturbed(Path(folder, "undisturbed"), ways)
        print(f"undisturbed: {', '.join(f'{name} {spent:.0f} s' for name, spent in seconds.items())}", flush=True)
        bad = kills = 0
        for trial in range(number):
            name = ways[trial % len(ways)]
            root = study(Path(folder, f"trial{trial}"))
            done, complaint = disturbed(root, WAYS[name], seconds[name], draw, expected)
            kills, bad = kills + done, bad + bool(complaint)
            print(f"{trial + 1:3} {name:<8} {done} kills: {complaint or 'the same numbers'}", flush=True)
            shutil.rmtree(root)
    print(f"{number} trials, {kills} kills, {bad} with other numbers or left-overs (seed {seed})")
    return int(bad > 0)


def study(root: Path) -> Path:
    """A root with the preset and the plan."""
    for name, text in (("march", PRESET), ("campaigns/march", PLAN)):
        path = root / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def undisturbed(root: Path, ways: list[str]) -> tuple[dict[str, dict], dict[str, float]]:
    """Every run's numbers, and how long each way takes."""
    seconds: dict[str, float] = {}
    found: dict[str, dict] = {}
    for name in ways:
        way, own = WAYS[name], study(root / name)
        begun = time.monotonic()
        if (process := start(own, way.command)).wait() != 0:
            sys.exit(f"{name}: undisturbed it ends with status {process.returncode}")
        seconds[name] = time.monotonic() - begun
        found |= numbers(own, way.methods)
    return found, seconds


def disturbed(
    root: Path, way: Way, seconds: float, draw: random.Random, expected: dict[str, dict]
) -> tuple[int, str | None]:
    """How often a study was killed before its end, and what is wrong with what came of it."""
    kills = 0
    for _ in range(draw.randint(1, 3)):
        process = start(root, way.command)
        if ended(process, draw.uniform(0, 0.8 * seconds)):
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        if way.before:
            start(root, way.before).wait()
    process = start(root, way.command)
    if process.wait() != 0:
        return kills, f"ends with status {process.returncode}"
    return kills, problem(root, way, expected)


def start(root: Path, command: list[str]) -> subprocess.Popen:
    """A command in a process group of its own, and silent."""
    environment = os.environ | {"LAYERPRUNE_ROOT": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, cwd=root, start_new_session=True, **silent)


def ended(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process ends by itself within a time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def problem(root: Path, way: Way, expected: dict[str, dict]) -> str | None:
    """What differs from a study that nobody disturbed, or was left lying."""
    for name, found in numbers(root, way.methods).items():
        if found != expected[name]:
            return f"{name}: other numbers"
    left = [path for pattern in ("state.pt", "*.tmp") for path in root.rglob(pattern)]
    return f"left: {left[0]}" if left else None


def numbers(root: Path, methods: list[str]) -> dict[str, dict]:
    """Run -> what must be equal whatever happened on the way."""
    return at(root, lambda: {str(key): without_commit(key) for key in keys() if key.method in methods})


def without_commit(key: paths.RunKey) -> dict:
    """A record's numbers; somebody may commit while this runs."""
    found = store.find(key).comparable()
    return found | {"provenance": {**found["provenance"], "commit": None, "dirty_digest": None}}


def keys() -> list[paths.RunKey]:
    return config.plan(config.load_preset("march"), "march")


def at(root: Path, ask: Callable[[], dict]) -> dict:
    """What is answered with `root` as the study's."""
    before = os.environ.get("LAYERPRUNE_ROOT")
    os.environ["LAYERPRUNE_ROOT"] = str(root)
    try:
        return ask()
    finally:
        if before is None:
            del os.environ["LAYERPRUNE_ROOT"]
        else:
            os.environ["LAYERPRUNE_ROOT"] = before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
