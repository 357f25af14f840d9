"""Kill runs, campaigns and graphs with SIGKILL: `python -m tests.kills [number] [seed] [run|campaign|graph]...`.

A trial draws one of the three by turns and a number of kills, each at a random moment of the time that the whole takes.
The whole process group dies, as with a machine. After the last kill the same command ends in peace, and every record
must hold the numbers of a study that nobody disturbed. Exits with status 1 where one does not. Trials run side by side,
one a core; what a trial does follows from the seed and its number.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from layerprune.suite import config, store
from layerprune.system import paths

REPOSITORY = Path(__file__).parents[2]
PRESET = """\
resources: {state_seconds: 0}
training: {duration: 20ep, batch_size: 64, lr: 0.01}
finetune: {duration: 5ep}
data: {download: false}
datasets:
  digits:
    archs: {lenet-300-100: {}}
    methods:
      gated: {settings: {nu: 0.05, theta_lr: 0.2, warmup: 2ep, check_interval: 5}}
      scratch-e: {}
"""
PLAN = "preset: march\nruns: [{dataset: digits, arch: lenet-300-100, method: [gated, scratch-e]}]\n"
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
    "run": Way([*RUN, "scratch-e"], ["gated", "scratch-e"]),
    "campaign": Way(
        [*PYTHON, "layerprune", "campaign", "march", "--minutes", "60", "--device", "cpu", "--jobs", "1", "--fill"],
        ["gated", "scratch-e"],
    ),
    "graph": Way(
        [*SNAKEMAKE, "tables", *CHOICE],
        ["gated", "scratch-e"],
        [*SNAKEMAKE, "--unlock", *CHOICE],
    ),
}


AT_ONCE = min(os.cpu_count() or 1, 4)
"""Trials at a time: the processes of one are mostly a single one."""


def main(words: list[str]) -> int:
    """Try so many trials (12 unless told otherwise), drawn from a seed (0), by turns of these ways (all)."""
    number, seed = (int(word) for word in (words + ["12", "0"][len(words) :])[:2])
    ways = words[2:] or list(WAYS)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        expected, seconds = undisturbed(Path(folder, "undisturbed"), ways, pool)
        print(f"undisturbed: {', '.join(f'{name} {spent:.0f} s' for name, spent in seconds.items())}", flush=True)

        def trial(count: int) -> Trial:
            name = ways[count % len(ways)]
            root = study(Path(folder, f"trial{count}"))
            return disturbed(name, root, seconds[name], random.Random(f"{seed} {count}"))

        found = [tell(count, each, expected) for count, each in enumerate(pool.map(trial, range(number)), 1)]
    bad, minutes = sum(complaint is not None for _, complaint in found), (time.monotonic() - begun) / 60
    kills = sum(done for done, _ in found)
    print(
        f"{number} trials, {kills} kills, {bad} with other numbers or left-overs (seed {seed}, {minutes:.0f} minutes)"
    )
    return int(bad > 0)


def tell(count: int, trial: "Trial", expected: dict[str, dict]) -> tuple[int, str | None]:
    """Print what came of a trial and clear it up; its kills, and what is wrong."""
    complaint = f"ends with status {trial.status}" if trial.status else problem(trial.root, WAYS[trial.name], expected)
    print(f"{count:3} {trial.name:<8} {trial.kills} kills: {complaint or 'the same numbers'}", flush=True)
    shutil.rmtree(trial.root)
    return trial.kills, complaint


def study(root: Path) -> Path:
    """A root with the preset and the plan."""
    for name, text in (("march", PRESET), ("campaigns/march", PLAN)):
        path = root / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def undisturbed(root: Path, ways: list[str], pool: ThreadPoolExecutor) -> tuple[dict[str, dict], dict[str, float]]:
    """Every run's numbers, and how long each way takes beside others."""

    def timed(name: str) -> float:
        begun = time.monotonic()
        if (process := start(study(root / name), WAYS[name].command)).wait() != 0:
            raise SystemExit(f"{name}: undisturbed it ends with status {process.returncode}")
        return time.monotonic() - begun

    seconds = dict(zip(ways, pool.map(timed, ways), strict=True))
    found: dict[str, dict] = {}
    for name in ways:
        found |= numbers(root / name, WAYS[name].methods)
    return found, seconds


@dataclass(frozen=True)
class Trial:
    """A study that was killed and gone on with: how often, and the last command's exit status."""

    name: str
    root: Path
    kills: int
    status: int


def disturbed(name: str, root: Path, seconds: float, draw: random.Random) -> Trial:
    """Kill a study up to three times before its end, then let the same command end."""
    way, kills = WAYS[name], 0
    for _ in range(draw.randint(1, 3)):
        process = start(root, way.command)
        if ended(process, draw.uniform(0, 0.8 * seconds)):
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        if way.before:
            start(root, way.before).wait()
    return Trial(name, root, kills, start(root, way.command).wait())


def start(root: Path, command: list[str]) -> subprocess.Popen:
    """A command in a process group of its own, and silent; its processes share the time of the one that started it."""
    environment = os.environ | {"LAYERPRUNE_ROOT": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, cwd=root, process_group=0, **silent)


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
