"""Records, curves and measured latencies as tidy frames: one row a planned run, whatever became of it.

A run's row carries the fields of its record (accuracies in [0, 1], MACs as multiply-adds), the settings `nu` and
`keep_rule`, the length of training in its settings (`duration`), the settings of its network (MODEL), what
identifies its code and machine, and of a control the gated run that it borrows from (`search`) with the cost of both.
A run without a record has status `missing`, one with a malformed record `unreadable`; `reason` says why. Rows have the
order of tables and legends: architecture as in the preset, then dense, gated, the other trained methods, scores,
controls; variants in natural order.
"""

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from layerprune.core import methods
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError
from layerprune.suite import config, store
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

KEY = ["preset", "dataset", "arch", "method", "variant", "seed"]
NUMBERS = [
    *("val_accuracy", "test_accuracy", "val_accuracy_before_finetune", "test_accuracy_before_finetune"),
    *("test_top5_accuracy", "depth", "depth_dense", "sections_total", "sections_left", "steps_total", "epochs"),
    *("macs", "macs_dense", "params", "params_dense", "train_macs", "train_macs_own", "train_macs_with_search"),
    *("wall_seconds", "wall_seconds_own", "equivalence_gap", "resumed", "nu", "threads", "width"),
    *("energy_joules", "energy_joules_own"),
]
LISTS = ["keep", "removed_step"]
WORDS = [
    *("label", "status", "reason", "data_source", "keep_rule", "duration", "warmup", "consolidate_at"),
    *("device", "commit", "dirty_digest", "config_digest", "torch", "cuda", "gpu", "cpu"),
    *("cpu_kernels", "removable", "shortcut", "search"),
]
MODEL = ["removable", "shortcut", "width"]
"""Settings of the network: which sections may go, the option of its shortcuts, channels (NaN: as published)."""
COLUMNS = [*KEY, *WORDS, *NUMBERS, *LISTS]
WITH_RESULT = ("ok", "unpruned", "collapsed")
"""Statuses of a run that trained to its end and counts in every mean, if it has an accuracy."""


@dataclass(frozen=True, eq=False)
class Study:
    """One dataset of a preset: its runs, and the architectures in their order; beside them its experiments."""

    preset: str
    dataset: str
    runs: pd.DataFrame
    experiments: tuple[RunKey, ...] = ()

    @property
    def archs(self) -> list[str]:
        return list(dict.fromkeys(self.runs["arch"]))

    @property
    def data_source(self) -> str:
        return ", ".join(sorted(set(self.runs["data_source"].dropna()))) or "none read yet"


def read_study(preset_name: str, dataset: str, partial: bool = False) -> Study:
    """All planned runs, experiments apart. Without `partial`, raises LayerpruneError when a record is missing or
    malformed."""
    preset = config.load_preset(preset_name)
    keys = sorted_keys(preset, config.plan(preset, preset_name, dataset))
    if not partial:
        _require_all(preset_name, dataset, keys)
    experiments = tuple(key for key in keys if methods.families()[key.method] == "experiments")
    rows = [_row(preset, key, partial) for key in keys if key not in experiments]
    runs = _with_search(_typed(pd.DataFrame(rows, columns=COLUMNS)))
    return Study(preset_name, dataset, runs, experiments)


def sorted_keys(preset: config.Preset, keys: list[RunKey]) -> list[RunKey]:
    """Runs in the order of tables and legends."""
    datasets = list(preset.datasets)
    archs = {name: list(block.archs) for name, block in preset.datasets.items()}
    ranks = {method: place for place, method in enumerate(method_order())}

    def rank(key: RunKey) -> tuple:
        arch = archs[key.dataset].index(key.arch)
        return datasets.index(key.dataset), arch, ranks[key.method], _variant_rank(key.variant), key.seed

    return sorted(keys, key=rank)


def method_order() -> list[str]:
    """Every method: dense, gated, the other trained ones, scores, controls; by name within a family."""
    families = methods.families()
    first = {"dense": 0, "gated": 1}
    return sorted(families, key=lambda name: (methods.FAMILIES.index(families[name]), first.get(name, 2), name))


def _variant_rank(variant: str) -> tuple[bool, list[tuple[bool, float, str]]]:
    """`default` first, then by words and by the value of numbers (keep-5 before keep-10)."""
    parts = [part for part in re.split(r"(\d+(?:\.\d+)?)", variant) if part]
    pieces = [(True, float(part), "") if part[0].isdigit() else (False, 0.0, part) for part in parts]
    return variant != "default", pieces


def run_label(method: str, variant: str) -> str:
    """A run's name in legends: the method's slug, and the variant's where it is not the default."""
    return method if variant == "default" else f"{method} {variant}"


def _require_all(preset_name: str, dataset: str, keys: list[RunKey]) -> None:
    missing = [key for key in keys if not store.exists(key)]
    if missing:
        named = ", ".join(str(key) for key in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise LayerpruneError(
            f"{paths.results(preset_name) / dataset}: {len(missing)} of {len(keys)} runs are missing: "
            f"{named} (run them, or ask for a partial result)"
        )


def _row(preset: config.Preset, key: RunKey, partial: bool) -> dict[str, Any]:
    base = {name: getattr(key, name) for name in KEY} | {"label": run_label(key.method, key.variant)}
    if not store.exists(key):
        return base | _planned(preset, key) | {"status": "missing", "reason": "not run"}
    try:
        return base | _recorded(store.find(key))
    except LayerpruneError as error:
        if not partial:
            raise
        return base | _planned(preset, key) | {"status": "unreadable", "reason": str(error)}


def _planned(preset: config.Preset, key: RunKey) -> dict[str, Any]:
    planned = config.resolve(preset, key)
    asked = {"duration": planned.training.duration}
    return asked | _settings(planned.settings) | _model(planned.model.model_dump())


def _recorded(run: Record) -> dict[str, Any]:
    fields = run.model_dump(exclude={"provenance", "details"})
    source = run.provenance.model_dump(exclude={"config", "data_checksums", "parents"})
    settings = run.provenance.config
    row = fields | source | _settings(settings.get("settings", {})) | _model(settings.get("model", {}))
    row["duration"] = settings.get("training", {}).get("duration")
    row["sections_left"] = sum(run.keep)
    row["search"] = _search(run)
    if run.provenance.lanes is not None:  # wall time beside others: nothing to compare
        row |= {"wall_seconds": None, "wall_seconds_own": None}
    elif any(_had_neighbours(name) for name in run.provenance.parents if name.split("/")[3] == "dense"):
        row["wall_seconds"] = None
    return {name: value for name, value in row.items() if name in COLUMNS and name not in KEY}


def _had_neighbours(run: str) -> bool:
    """Whether a run shared its device with others in its process."""
    made = store.find(paths.parse_run_folder(Path(run)))
    return made is not None and made.provenance.lanes is not None


def _search(run: Record) -> str | None:
    """The gated run whose layout or depth a control takes over.

    A score method that is given gated's depth still chooses its sections itself: none.
    """
    if methods.families()[run.method] != "controls":
        return None
    return next((parent for parent in run.provenance.parents if parent.split("/")[3] == "gated"), None)


def _with_search(runs: pd.DataFrame) -> pd.DataFrame:
    """Training MACs of controls with those of their search; the same as without where nothing is borrowed."""
    names = [str(RunKey(**row)) for row in runs[KEY].to_dict("records")]
    searches = runs["search"].map(dict(zip(names, runs["train_macs"], strict=True)))
    costs = runs["train_macs"] + searches.where(runs["search"].notna(), 0.0)
    return runs.assign(train_macs_with_search=costs.where(runs["method"].map(methods.families()) == "controls"))


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    names = {"nu": "nu", "keep_rule": "keep", "warmup": "warmup", "consolidate_at": "consolidate_at"}
    return {column: values.get(name) for column, name in names.items()}


def _model(values: dict[str, Any]) -> dict[str, Any]:
    """The network's settings; records from before there were any mean the defaults."""
    return {name: (ModelSettings().model_dump() | values).get(name) for name in MODEL}


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    """Numbers as floats (NaN where a run has none), whatever rows there are."""
    return runs.astype({name: "float64" for name in NUMBERS}).astype({name: object for name in LISTS})


# --- curves ---------------------------------------------------------------------------------------------------------


def read_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of these runs under each other, the run's key and label first; runs without curves are left
    out.

    Raises LayerpruneError for a curves.csv that is not a table with the columns epoch and step.
    """
    found = [_curves_of(row) for row in runs.to_dict("records")]
    frames = [frame for frame in found if frame is not None]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*KEY, "label", "epoch", "step"])


def _curves_of(row: dict[str, Any]) -> pd.DataFrame | None:
    curves = read_curve(RunKey(**{name: row[name] for name in KEY}))
    if curves is None:
        return None
    names = {name: row[name] for name in [*KEY, "label"]}
    return pd.concat([pd.DataFrame([names] * len(curves)), curves], axis=1)


def read_curve(key: RunKey) -> pd.DataFrame | None:
    """One run's curves.csv, None if it does not exist. Raises LayerpruneError if it cannot be read."""
    path, text = paths.curves(key), store.curves(key)
    if text is None:
        return None
    try:
        curves = pd.read_csv(io.StringIO(text))
    except ValueError as error:
        raise LayerpruneError(f"{path}: not readable as CSV: {error}") from None
    except OverflowError:  # pandas 3.0; later ones call such a column a text
        raise LayerpruneError(f"{path}: a number is too large") from None
    lacking = {"epoch", "step"} - set(curves.columns)
    if lacking or curves.empty:
        raise LayerpruneError(f"{path}: " + (f"no column '{min(lacking)}'" if lacking else "no rows"))
    odd = next((name for name, column in curves.items() if not is_numeric_dtype(column)), None)
    if odd is not None:
        raise LayerpruneError(f"{path}: column '{odd}' holds other things than numbers")
    return curves.replace([math.inf, -math.inf], math.nan)  # a loss that diverged has no place on an axis


# --- latencies ------------------------------------------------------------------------------------------------------

LATENCY_WORDS = ["arch", "method", "variant", "device", "hardware", "engine", "precision"]
LATENCY_WHOLE = ["seed", "batch", "threads", "macs"]
LATENCY_TIMES = ["median_ms", "low_ms", "high_ms"]
LATENCY_DEFAULTS = {"engine": "eager", "precision": "fp32"}
"""What tables without these columns were measured with, before there was a choice."""


def read_latencies(preset: str, dataset: str) -> pd.DataFrame:
    """A row per run, batch size, engine and precision, times in milliseconds; no rows where nothing was measured.

    Raises LayerpruneError for a file that is not such a table.
    """
    path, columns = paths.latency_table(preset, dataset), [*LATENCY_WORDS, *LATENCY_WHOLE, *LATENCY_TIMES]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    text = files.read_text(path)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(LATENCY_WORDS, str))
        table = table.assign(**{name: value for name, value in LATENCY_DEFAULTS.items() if name not in table})
        lacking = sorted(set(columns) - set(table.columns))
        if lacking:
            raise ValueError(f"no column '{lacking[0]}'")
        times = table[LATENCY_TIMES].astype("float64")
        if not ((times > 0) & (times < math.inf)).all(axis=None):
            raise ValueError("a time that is none")
        return table[columns].astype(dict.fromkeys(LATENCY_WHOLE, "int64") | dict.fromkeys(LATENCY_TIMES, "float64"))
    except (ValueError, OverflowError) as error:
        raise LayerpruneError(f"{path}: not a table of latencies: {' '.join(str(error).split())}") from None


def read_plain_latencies(preset: str, dataset: str) -> pd.DataFrame:
    """Those of eager networks in full precision, on the first device of the table."""
    times = read_latencies(preset, dataset)
    times = times[(times["engine"] == "eager") & (times["precision"] == "fp32")]
    return times[times["device"] == times["device"].iloc[0]] if len(times) else times
