"""The most memory of runs' first steps: python -m bench.run_memory PRESET [DATASET/ARCH/METHOD/VARIANT]...

It is nearly that of the whole run, so that runs whose records do not tell it need not be made again. Each run is made,
after what it starts from, of a copy of the preset in which every training has STEPS steps, by `layerprune run` in a
process of its own; without names gated training on every network. Rows of MEASURED: `memory` as records have it, from
the beginning of training on, and `process`, which has loading the data, too (bytes).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from layerprune.suite import config, record
from layerprune.suite.campaign.todo import with_parents
from layerprune.suite.config import Preset
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

MEASURED = Path(__file__).parent / "measured" / "memory-of-runs.csv"
STEPS, LEAST = 40, 4
"""Steps of a training, and of each of its parts."""
SECONDS_BETWEEN_LOOKS = 0.05


def shortened(preset: str) -> str:
    """The YAML of a preset with trainings of STEPS steps, and warm-ups and searches of LEAST."""
    parts = re.sub(r"\b\d+(ep|it)\b", f"{LEAST}it", preset)
    return parts.replace(f"duration: {LEAST}it", f"duration: {STEPS}it")


def chosen(preset: Preset, name: str, patterns: list[str]) -> list[RunKey]:
    """The first seed of each run that fits a pattern, and what it starts from, that first."""
    firsts: dict[str, RunKey] = {}
    for key in config.plan(preset, name):
        firsts.setdefault(f"{key.dataset}/{key.arch}/{key.method}/{key.variant}", key)
    wanted = [key for named, key in firsts.items() if any(fnmatchcase(named, each) for each in patterns)]
    needed = with_parents(preset, wanted)
    return sorted(needed, key=lambda key: len(config.prerequisites(preset, key)))


def measure(key: RunKey, environment: Mapping[str, str]) -> dict[str, object]:
    """Make a run below the environment's root; returns its row."""
    named = {name: str(getattr(key, name)) for name in ("preset", "dataset", "arch", "method", "variant", "seed")}
    words = [word for name, value in named.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "layerprune", "run", *words, "--device", "cpu"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        process_bytes = _largest_until_the_end(process)
    made = record.read(Path(environment["LAYERPRUNE_ROOT"]) / paths.record(key).relative_to(paths.root()))
    machine, day = made.provenance, made.finished_at[:10]
    told = {"run": str(key), "steps": made.steps_total, "memory": made.memory_bytes, "process": process_bytes}
    return told | {"cpu": machine.cpu, "torch": machine.torch, "day": day}


def _largest_until_the_end(process: subprocess.Popen) -> int:
    """The most that a process held. It is looked up all the time, because a run begins its count anew with training."""
    largest = 0
    while process.poll() is None:
        largest = max(largest, _largest(process.pid))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return largest


def _largest(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    told = re.search(r"^VmHWM:\s+(\d+) kB$", status, flags=re.MULTILINE)
    return 1024 * int(told[1]) if told else 0


def keep(row: dict[str, object]) -> None:
    """Write a row to MEASURED, in place of the run's former one."""
    before = pd.read_csv(MEASURED) if MEASURED.is_file() else pd.DataFrame(columns=list(row))
    rows = pd.concat([before[before["run"] != row["run"]], pd.DataFrame([row])])
    files.write_text(MEASURED, rows.sort_values("run").to_csv(index=False, lineterminator="\n"))


def main(name: str, patterns: list[str]) -> None:
    """Measure, keep and print a row a run."""
    preset = config.load_preset(name)
    with tempfile.TemporaryDirectory(prefix="layerprune-memory.") as folder:
        root = Path(folder)
        (root / "config").mkdir()
        (root / "config" / f"{name}.yaml").write_text(shortened(paths.preset_file(name).read_text(encoding="utf-8")))
        (root / "requirements.lock").write_bytes((paths.root() / "requirements.lock").read_bytes())
        environment = config.environment_below(root, preset)
        for key in chosen(preset, name, patterns):
            row = measure(key, environment)
            keep(row)
            print(
                f"{row['run']:<60} {row['memory'] / 1e9:5.2f} GB, with loading {row['process'] / 1e9:5.2f}", flush=True
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], sys.argv[2:] or ["*/*/gated/default"])
