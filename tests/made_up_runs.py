"""Made-up runs for tests of the analysis: schema-valid records and curves of a small study, no training.

Numbers are drawn from a generator seeded with the run's name, so that a study is the same each time; they
look like the real ones only as far as figures need it. Everything is written below LAYERPRUNE_ROOT.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from layerprune.core import methods
from layerprune.core.version import versions_of
from layerprune.suite import config, record
from layerprune.suite.record import Provenance, Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

PRESET = "made-up"
DATASET = "mnist"
EPOCHS = 8
STEPS_PER_EPOCH = 100
CHECKSUMS = {"train-images": "a" * 64, "train-labels": "b" * 64}
METHODS = ["dense", "gated", "sss", "hard-concrete", "stochastic-depth", "random", "magnitude", "taylor"]
METHODS += ["leave-one-out", "by-index", "scratch-e", "scratch-b"]
NU = (0.0005, 0.001, 0.004, 0.016, 0.064)
SMALL = {"lenet5": {}}


def preset(
    archs: dict[str, dict[str, Any]] | None = None,
    methods: list[str] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    sweep: bool = False,
) -> dict[str, Any]:
    """A preset as plain data; `sweep` adds variants of nu and keep on mlp-residual-20."""
    archs = {name: dict(block) for name, block in (archs or SMALL).items()}
    if sweep:
        keeps = {f"keep-{count}": {"settings": {"keep": count}} for count in (2, 5, 10)}
        prices = {f"nu-{nu}": {"settings": {"nu": nu}} for nu in NU}
        scores = {
            name: {"variants": keeps} for name in ("random", "magnitude", "taylor") if name in (methods or METHODS)
        }
        archs["mlp-residual-20"]["methods"] = {"gated": {"variants": prices}, **scores}
    chosen = {name: {} for name in (methods or METHODS)}
    if "gated" in chosen:
        chosen["gated"] = {"settings": {"nu": 0.002}}
    block = {"archs": archs, "methods": chosen}
    training = {"duration": f"{EPOCHS}ep"}
    return {"seeds": list(seeds), "training": training, "datasets": {DATASET: block}}


def write_study(raw: dict[str, Any], name: str = PRESET) -> list[RunKey]:
    """Write the preset and a record and curves for each of its runs; returns the runs."""
    files.write_text(paths.preset_file(name), json.dumps(raw, indent=2))
    parsed = config.load_preset(name)
    keys = config.plan(parsed, name)
    for key in keys:
        write_run(parsed, key)
    return keys


def write_run(parsed: config.Preset, key: RunKey, **changes: Any) -> Record:
    """Write one run; `changes` replace fields of its record. Parents must have been written before."""
    made = make_record(parsed, key).model_copy(update=changes)
    if made.status not in ("failed", "diverged"):
        files.write_text(paths.curves(key), make_curves(made).to_csv(index=False))
    return record.write(paths.record(key), made)


def change(key: RunKey, **changes: Any) -> None:
    """Replace fields of a record on disk; `provenance.NAME` as `provenance__NAME`."""
    raw = files.read_json(paths.record(key))
    for name, value in changes.items():
        *folder, leaf = name.split("__")
        target = raw[folder[0]] if folder else raw
        target[leaf] = value
    files.write_json(paths.record(key), raw | {"checksum": record.checksum_of(raw)})


def fail(key: RunKey, status: str = "diverged") -> None:
    """Turn a run into one that did not reach its end."""
    change(key, status=status, reason="loss is not finite at step 17", test_accuracy=None, val_accuracy=None)
    paths.curves(key).unlink(missing_ok=True)


def generator(*words: object) -> np.random.Generator:
    digest = hashlib.sha256(repr(words).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def sections_of(arch: str, removable: str = "all") -> int:
    """Sections that may go; a ResNet's two that change the shape count only where all may."""
    number = arch.rpartition("-")[2]
    if "resnet" in arch:
        return (int(number) - 2) // 2 - 2 * (removable == "shape-preserving")
    return {"lenet-300-100": 2, "lenet5": 3}.get(arch) or int(number)


def make_record(parsed: config.Preset, key: RunKey) -> Record:
    settings = config.resolve(parsed, key)
    total = sections_of(key.arch, settings.model.removable)
    keep = _keep(key, settings.settings, total)
    removed = [None if left else _removal_step(key, place, total) for place, left in enumerate(keep)]
    parents = {str(parent): record.read(paths.record(parent)) for parent in config.prerequisites(parsed, key)}
    own = _own_cost(key, keep, removed, total)
    cost = own + sum(parent.train_macs_own for parent in parents.values())
    seconds = cost / 2e9 * (1 + 0.02 * generator(str(key), "clock").random())
    accuracy = _accuracy(key, sum(keep), total)
    return Record(
        **{name: getattr(key, name) for name in ("preset", "dataset", "arch", "method", "variant", "seed")},
        data_source="made-up",
        status="unpruned" if key.method != "dense" and all(keep) else "ok" if any(keep) else "collapsed",
        val_accuracy=accuracy - 0.001,
        test_accuracy=accuracy,
        val_accuracy_before_finetune=accuracy - 0.2 if methods.families()[key.method] == "scores" else None,
        depth=1 + sum(keep),
        depth_dense=1 + total,
        sections_total=total,
        keep=keep,
        removed_step=removed,
        steps_total=EPOCHS * STEPS_PER_EPOCH,
        macs=_macs(sum(keep)),
        macs_dense=_macs(total),
        params=_macs(sum(keep)) + 110,
        params_dense=_macs(total) + 110,
        train_macs=cost,
        train_macs_own=own,
        epochs=EPOCHS,
        wall_seconds=seconds,
        wall_seconds_own=seconds * own / cost,
        device="cpu",
        equivalence_gap=2e-6,
        finished_at="2025-01-01T00:00:00Z",
        files=record.Files(),
        details={"nu": settings.settings.get("nu") or 0.002} if key.method == "gated" else {},
        provenance=_provenance(key, settings, {name: parent.digest() for name, parent in parents.items()}),
    )


def _provenance(key: RunKey, settings: config.RunSettings, parents: dict[str, str]) -> Provenance:
    return Provenance(
        commit=None, dirty_digest=None, lock_digest=None, cuda=None, gpu=None,
        versions=versions_of(key.dataset, key.arch, key.method),
        config_digest=settings.digest(), config=settings.model_dump(mode="json"),
        data_checksums=CHECKSUMS, parents=parents, python="3.11", torch="2.12", cpu="made-up", threads=1,
    )  # fmt: skip


def _macs(left: int) -> int:
    return 79_400 + 20_000 * left


def _keep(key: RunKey, settings: dict[str, Any], total: int) -> list[int]:
    if key.method in ("dense", "stochastic-depth"):
        return [1] * total
    count = _left(key, settings, total)
    source = "gated" if key.method.startswith(("by-index", "scratch")) else key.method
    wish = generator(source, key.arch, key.seed).random(total) + np.linspace(0.6, 0, total)
    chosen = set(np.argsort(-wish, kind="stable")[:count].tolist())
    return [int(place in chosen) for place in range(total)]


def _left(key: RunKey, settings: dict[str, Any], total: int) -> int:
    if isinstance(settings.get("keep"), int):
        return min(settings["keep"], total)
    nu = settings.get("nu") or 0.002
    share = 0.45 - 0.13 * math.log2(nu / 0.002) / 2
    share += {"sss": 0.2, "hard-concrete": 0.1}.get(key.method, 0) - 0.006 * total
    noise = generator("left", key.arch, key.seed).integers(-1, 2)
    return int(np.clip(round(share * total) + noise, 0, total))


def _removal_step(key: RunKey, place: int, total: int) -> int:
    if key.method not in ("gated", "sss", "hard-concrete"):
        return 0
    last = EPOCHS * STEPS_PER_EPOCH
    return int(generator(str(key), place).uniform(0.26, 0.5) * last // 25 * 25)


def _alive(removed: list[int | None], step: int) -> int:
    return sum(at is None or at > step for at in removed)


def _own_cost(key: RunKey, keep: list[int], removed: list[int | None], total: int) -> int:
    extra = EPOCHS * (_macs(total) - _macs(sum(keep))) if key.method == "scratch-b" else 0
    return _cost_until(removed, EPOCHS) + 384 * STEPS_PER_EPOCH * extra


def _cost_until(removed: list[int | None], epoch: int) -> int:
    """Multiply-adds of training up to this epoch: forward x 3, 128 examples a step."""
    alive = [_alive(removed, each * STEPS_PER_EPOCH) for each in range(epoch)]
    return sum(384 * STEPS_PER_EPOCH * _macs(count) for count in alive)


def _accuracy(key: RunKey, left: int, total: int) -> float:
    base = {"lenet-300-100": 0.983, "lenet5": 0.9905}.get(key.arch, 0.981)
    skill = {"gated": 0.002, "random": 0.02, "magnitude": 0.012, "taylor": 0.008, "by-index": 0.004}
    lost = skill.get(key.method, 0.005) * (1 - left / total) ** 3 + (0.004 if left == 0 else 0)
    lost += 0.015 if key.method == "stochastic-depth" else 0
    return float(base - lost + 0.0007 * generator(str(key), "accuracy").standard_normal())


def make_curves(made: Record) -> pd.DataFrame:
    """Curves that end where the record says."""
    rows = [_curve_row(made, epoch) for epoch in range(EPOCHS + 1)]
    return pd.DataFrame(rows)


def _curve_row(made: Record, epoch: int) -> dict[str, Any]:
    step = epoch * STEPS_PER_EPOCH
    alive = _alive(made.removed_step, step)
    share = _cost_until(made.removed_step, epoch) / _cost_until(made.removed_step, EPOCHS)
    before = made.train_macs - made.train_macs_own
    row = {
        "epoch": epoch,
        "step": step,
        "lr": 0.05,
        "train_loss": None if epoch == 0 else 2.3 * math.exp(-epoch),
        "val_loss": None if epoch == 0 else 2.4 * math.exp(-epoch),
        "val_accuracy": made.val_accuracy if epoch else 0.1,
        "sections_alive": alive,
        "macs": _macs(alive),
        "train_macs": before + round(made.train_macs_own * share),
        "wall_seconds": made.wall_seconds * epoch / EPOCHS,
    }
    return row | _thetas(made, epoch, step)


def _thetas(made: Record, epoch: int, step: int) -> dict[str, float | None]:
    if made.method not in ("gated", "sss", "hard-concrete", "stochastic-depth"):
        return {}
    return {
        f"theta_{place:02d}": None if at is not None and at <= step else _theta(made, place, at, epoch, step)
        for place, at in enumerate(made.removed_step)
    }


def _theta(made: Record, place: int, at: int | None, epoch: int, step: int) -> float:
    wiggle = 0.05 * generator(made.arch, made.seed, place, epoch).standard_normal()
    if epoch <= 2:
        return 0.5
    if at is None:
        return 1.0 if epoch >= EPOCHS / 2 else float(np.clip(0.5 + 0.2 * (epoch - 1.5) + wiggle, 0, 1))
    return float(np.clip(0.5 * (1 - (step - 200) / max(at - 200, 25)) + wiggle, 0, 1))


def texts(figure: Figure) -> list[str]:
    """What a figure says inside its panels, such as why one is empty."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]
