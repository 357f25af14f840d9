"""What a large study costs besides training, on made-up records: python -m bench.many_records COUNT FOLDER

Writes a preset with COUNT runs into FOLDER, and a store with a record of each: copies of committed ones with drawn
accuracies, without curves. Then runs what reads them all, a process each, and prints its CPU time and memory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from layerprune.suite import config, store
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

PRESET, DATASET, LIKE = "many", "mnist", "mlp-residual-20"
ARCHS = tuple(f"mlp-residual-{count}" for count in range(5, 55, 5))
SEEDS = 20
PRICES = {"gated": "nu", "sss": "gamma", "hard-concrete": "penalty"}
"""Methods that are swept, and over what."""
REPOSITORY = Path(__file__).parents[1]
COMMANDS = ("plan", "tables", "claims", "figures")


def write(count: int) -> None:
    """Preset and store below the root: networks x (dense and three sweeps of a price) x seeds, about `count` runs."""
    swept = round((count / len(ARCHS) / SEEDS - 1) / len(PRICES)) - 1
    methods: dict[str, Any] = {"dense": {}}
    for method, price in PRICES.items():
        prices = [1 + place / swept for place in range(swept)]
        methods[method] = {"variants": {f"{price}-{each:.4f}": {"settings": {price: each}} for each in prices}}
    block = {"archs": {name: {} for name in ARCHS}, "methods": methods}
    preset = {"seeds": list(range(SEEDS)), "training": {"duration": "8ep"}, "datasets": {DATASET: block}}
    files.write_text(paths.preset_file(PRESET), json.dumps(preset))
    files.write_text(paths.claim_rules(), (REPOSITORY / "config" / "claims" / "rules.yaml").read_text())
    planned = config.plan(config.load_preset(PRESET), PRESET)
    files.write_text(paths.stored_records(PRESET, DATASET), "".join(_lines(planned)))
    size = paths.stored_records(PRESET, DATASET).stat().st_size
    print(f"{len(planned):,} records, {size / 1e6:.0f} MB", flush=True)


def templates() -> dict[str, Record]:
    """Method -> a committed record of it."""
    here = os.environ.pop("LAYERPRUNE_ROOT")
    os.chdir(REPOSITORY)
    try:
        return {name: store.stored(RunKey("laptop", DATASET, LIKE, name, "default", 0)) for name in ("dense", *PRICES)}
    finally:
        os.environ["LAYERPRUNE_ROOT"] = here


def _lines(planned: list[RunKey]) -> Iterator[str]:
    known, drawn = templates(), np.random.default_rng(0)
    for key in planned:
        like = known[key.method]
        named = {"preset": PRESET, "arch": key.arch, "variant": key.variant, "seed": key.seed}
        accuracy = like.test_accuracy - abs(drawn.normal(0, 0.002))
        provenance = like.provenance.model_copy(update={"data_checksums": {}, "parents": {}})
        made = like.model_copy(update={"test_accuracy": accuracy, "provenance": provenance, **named})
        yield f"{json.dumps(made.sealed().model_dump(mode='json'), sort_keys=True)}\n"


def cost(command: str) -> str:
    """CPU seconds and memory of one of the package's commands."""
    words = [sys.executable, "-m", "layerprune", command, "--preset", PRESET]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    complaint = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    told = f"{used.ru_utime + used.ru_stime:7.1f} s of CPU time {used.ru_maxrss / 1e6:6.2f} GB"
    return f"{command:<8}{told}" + (
        "" if status == 0 else f", failed: {(complaint.strip() or 'killed').splitlines()[-1]}"
    )


if __name__ == "__main__":
    os.environ["LAYERPRUNE_ROOT"] = str(Path(sys.argv[2]).resolve())
    write(int(sys.argv[1]))
    for each in COMMANDS:
        print(cost(each), flush=True)
