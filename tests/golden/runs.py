"""Golden runs: every run of the small studies in studies/, made by the command that users give.

What a record and its curves say is compared; times, machine and provenance are not. How a run is made and where its
files lie stand in `run_it` alone.
"""

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from layerprune.cli import app
from layerprune.core.version import versions_of
from layerprune.suite import config
from layerprune.suite.record import IF_MEASURED
from layerprune.system import paths
from layerprune.system.paths import RunKey

from .compare import EVERYWHERE
from .made_up import small_imagenet, write_data

STUDIES = Path(__file__).parent / "studies"
MEASURED = ("wall_seconds", "wall_seconds_own", "finished_at", *IF_MEASURED)
NOT_COMPARED = (*MEASURED, "provenance", "resumed", "device", "files", "checksum")
DEVICE, THREADS = "cpu", 1
GAP = 1e-4
"""What the certificate may differ by between the gated and the smaller network: it is nothing but rounding."""


@cache
def study(name: str) -> Any:
    """A preset of studies/."""
    return config.read_preset(STUDIES / f"{name}.yaml")


def all_keys() -> list[RunKey]:
    """Every run of every study."""
    return [key for path in sorted(STUDIES.glob("*.yaml")) for key in config.plan(study(path.stem), path.stem)]


def settings_of(key: RunKey) -> str:
    """Digest of a run's settings."""
    return config.resolve(study(key.preset), key).digest()


def versions(key: RunKey) -> dict[str, int]:
    """The versions that a run's numbers depend on, those of its parents among them."""
    parents = config.prerequisites(study(key.preset), key)
    methods = {f"parent {each.method}": versions_of(key.dataset, key.arch, each.method)["method"] for each in parents}
    return versions_of(key.dataset, key.arch, key.method) | methods


@contextmanager
def workplace(folder: Path, data: Path | None = None) -> Iterator[None]:
    """A root of all files with the studies, for a while this process's; data are written unless given."""
    shutil.copytree(STUDIES, folder / "config")
    data = data or write_data(folder / "data")
    before = dict(os.environ)
    os.environ |= {"LAYERPRUNE_ROOT": str(folder), "LAYERPRUNE_DATA": str(data)}
    try:
        with small_imagenet():
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_it(key: RunKey) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Make a run (parents first, where they are missing); its record as plain data and the rows of its curves."""
    words = {name: str(getattr(key, name)) for name in ("preset", "dataset", "arch", "method", "variant", "seed")}
    options = [f"--{name}={value}" for name, value in (words | {"threads": THREADS, "device": DEVICE}).items()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(["run", *options], standalone_mode=False)
    with paths.curves(key).open() as lines:
        return json.loads(paths.record(key).read_text()), list(csv.DictReader(lines))


def values(key: RunKey) -> dict[str, Any]:
    """All numbers of a run that are compared."""
    record, rows = run_it(key)
    found = {name: value for name, value in record.items() if name not in NOT_COMPARED}
    gap = found.pop("equivalence_gap")
    columns = [name for name in rows[0] if not name.startswith("wall")]
    rows = [row for row in rows if float(row["epoch"]) % 1 == 0]  # those within an epoch tell nothing else
    curves = {name: [_number(row[name]) for row in rows] for name in columns}
    return found | {"equivalent": gap is not None and gap < GAP, "curves": curves}


def _number(text: str) -> float | int | None:
    if text == "":
        return None
    return int(text) if text.isdigit() else float(text)


def tolerances(key: RunKey) -> dict[str, float]:
    """Accuracies move in steps of an example of their split: one of them, of bfloat16 five."""
    bf16 = key.variant == "bf16"
    validation, test = ((5 if bf16 else 1) * 1.01 / images for images in SIZES[key.dataset])
    names = ("val_accuracy", "val_accuracy_before_finetune", "accuracies", "whole_accuracy")
    found = {name: validation for name in names} | {"test_accuracy": test}
    return found | ({EVERYWHERE: 0.1} if bf16 else {}) | OWN_TOLERANCES.get(key.method, {})


SIZES = {"digits": (200, 360), "cifar10": (60, 120), "imagenet": (12, 18)}
"""Images of the validation and of the test split."""
OWN_TOLERANCES = {
    "imprinting": {"scores": 2.01 / 128},
    "dbp": {"scores": 2.01 / 128},
    "linear-probes": {"scores": 2.01 / 128},
    "sr-init": {"scores": 0.02},
    "random-removal": {"gaps": GAP},
}
"""Scores that are differences of accuracies on a sample may differ by an example each; gaps are rounding."""
