"""Do fresh runs give the committed records again? Each is equal bit for bit, within tolerance, or off. No torch.

A fresh run is one whose folder holds a record that was not taken from the store, of a run that the store has too.
Equal: every number, the sections left and the steps at which others went, down to the last bit; and the weights, where
both records name them. Within: test accuracy and MACs (of 1, the dense network's) each differ by at most FACTOR
standard deviations of a difference between two seeds, 3 x sqrt(2) x sd. sd is that of the committed runs which differ
by their seed alone: of the method on this network, or, with fewer than LEAST degrees of freedom, of the method on
the data set's networks, or of all its runs. The same seed elsewhere should be nearer than another seed is.
"""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

import pandas as pd

from layerprune.analysis.frames import WITH_RESULT
from layerprune.errors import LayerpruneError
from layerprune.suite import config, packing, store
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

FACTOR = 3 * math.sqrt(2)
LEAST = 4
"""Degrees of freedom from which on a standard deviation is taken from a method's own runs."""
VERDICTS = {
    "equal": "equal bit for bit",
    "within": "within tolerance",
    "undecided": "no two seeds to take a tolerance from",
    "off": "off",
}
QUANTITIES = ("test_accuracy", "macs")
SCIENCE = ("versions", "config_digest")
MACHINE = ["cpu", "gpu", "cpu_kernels", "torch", "committed_cpu"]


@dataclass(frozen=True)
class Row:
    """A fresh run beside the committed one: fresh minus committed (accuracy: a fraction); None without a number.

    `memory` is what the fresh run took at most, in bytes.
    """

    run: str
    verdict: str
    why: str
    accuracy: float | None
    accuracy_difference: float | None
    accuracy_tolerance: float | None
    macs_difference: float | None
    macs_tolerance: float | None
    cpu: str
    gpu: str | None
    cpu_kernels: str | None
    torch: str
    committed_cpu: str
    memory: float | None
    record: str
    committed_record: str


COLUMNS = [each.name for each in fields(Row)]
NUMBERS = [each.name for each in fields(Row) if each.type == float | None]
TEXTS = [name for name in COLUMNS if name not in NUMBERS]


def check(preset_name: str, dataset: str | None = None) -> list[Row]:
    """Every fresh run of a preset (of one data set) beside the committed one.

    Raises LayerpruneError where no run is fresh, and for records that are malformed or altered.
    """
    preset = config.load_preset(preset_name)
    datasets = [dataset] if dataset else list(preset.datasets)
    rows = [row for each in datasets for row in _rows(preset_name, each)]
    if not rows:
        raise LayerpruneError(
            f"{paths.results(preset_name)}: no fresh run of one that is committed: make some, for example with "
            f"`layerprune run --preset {preset_name} ...` or `snakemake -F --config preset={preset_name}`"
        )
    return rows


def _rows(preset_name: str, dataset: str) -> list[Row]:
    pairs = [pair for key in packing.in_folders(preset_name, dataset) if (pair := _pair(key)) is not None]
    if not pairs:
        return []
    spreads = Spreads([store.stored(key) for key in store.keys(preset_name, dataset)])
    return [compare(fresh, committed, spreads) for fresh, committed in pairs]


def _pair(key: RunKey) -> tuple[Record, Record] | None:
    """A run's fresh record and its committed one; None where one of them lacks, or both are the same."""
    committed, fresh = store.stored(key), store.find(key)
    return None if committed is None or fresh.checksum == committed.checksum else (fresh, committed)


# --- tolerance ----------------------------------------------------------------------------------------------------


class Spreads:
    """How far runs that differ by their seed alone are from one another, pooled over what is alike."""

    def __init__(self, committed: Iterable[Record]) -> None:
        rows = [
            {"arch": made.arch, "method": made.method, "variant": made.variant, **numbers(made)}
            for made in committed
            if made.status in WITH_RESULT
        ]
        self._runs = pd.DataFrame(rows, columns=["arch", "method", "variant", *QUANTITIES])

    def tolerance(self, quantity: str, arch: str, method: str) -> float | None:
        """Largest difference that still counts as within; None where no two committed runs differ by their seed."""
        runs = self._runs.dropna(subset=quantity)
        of_method = runs[runs["method"] == method]
        levels = [_pooled(part, quantity) for part in (of_method[of_method["arch"] == arch], of_method, runs)]
        enough = [sd for sd, freedom in levels if freedom >= LEAST] + [sd for sd, freedom in levels if freedom > 0]
        return FACTOR * enough[0] if enough else None


def _pooled(runs: pd.DataFrame, quantity: str) -> tuple[float, int]:
    """Standard deviation within groups of equal settings, and its degrees of freedom."""
    groups = runs.groupby(["arch", "method", "variant"])[quantity]
    freedom = int((groups.count() - 1).sum())
    squares = float(((runs[quantity] - groups.transform("mean")) ** 2).sum())
    return math.sqrt(squares / freedom) if freedom else math.nan, freedom


def numbers(made: Record) -> dict[str, float | None]:
    """What is compared with a tolerance: QUANTITIES -> test accuracy, and MACs over the dense network's."""
    return {"test_accuracy": made.test_accuracy, "macs": made.macs / made.macs_dense}


# --- verdicts -----------------------------------------------------------------------------------------------------


def compare(fresh: Record, committed: Record, spreads: Spreads) -> Row:
    """The row of one run."""
    new, old = numbers(fresh), numbers(committed)
    known = [name for name in QUANTITIES if None not in (new[name], old[name])]
    away = {name: new[name] - old[name] for name in known}
    allowed = {name: spreads.tolerance(name, fresh.arch, fresh.method) for name in QUANTITIES}
    verdict, why = _verdict(fresh, committed, away, allowed)
    machine = fresh.provenance
    return Row(
        str(fresh.key),
        verdict,
        why,
        new["test_accuracy"],
        away.get("test_accuracy"),
        allowed["test_accuracy"],
        away.get("macs"),
        allowed["macs"],
        machine.cpu,
        machine.gpu,
        machine.cpu_kernels,
        machine.torch,
        committed.provenance.cpu,
        fresh.memory_bytes,
        fresh.checksum[:12],
        committed.checksum[:12],
    )


def _verdict(
    fresh: Record, committed: Record, away: Mapping[str, float], allowed: Mapping[str, float | None]
) -> tuple[str, str]:
    """Verdict and, of a run that is off, why."""
    if any(getattr(fresh.provenance, name) != getattr(committed.provenance, name) for name in SCIENCE):
        return "off", "made with other settings, or another version of the code"
    if is_equal(fresh, committed):
        return "equal", ""
    if (fresh.status in WITH_RESULT) != (committed.status in WITH_RESULT):
        return "off", f"status {fresh.status}, committed {committed.status}"
    if any(allowed[name] is None for name in away):
        return "undecided", ""
    outside = [name for name in away if abs(away[name]) > allowed[name]]
    return ("off", f"{' and '.join(outside)} outside the tolerance") if outside else ("within", "")


def is_equal(fresh: Record, committed: Record) -> bool:
    """Whether two records say the same of the same run, bit for bit, whatever the machine and the day."""
    weights = fresh.files.weights, committed.files.weights
    return fresh.digest() == committed.digest() and (None in weights or weights[0] == weights[1])


# --- as text and as a file ----------------------------------------------------------------------------------------


def report(rows: list[Row]) -> str:
    """A line a run, then a line for each machine."""
    return "\n".join([*map(_line, rows), "", *(_summary(row) for row in by_machine(as_frame(rows)).to_dict("records"))])


def _line(row: Row) -> str:
    parts = [f"{row.run}: {VERDICTS[row.verdict]}"]
    if row.verdict != "equal" and row.accuracy_difference is not None:
        parts.append(f"accuracy {_points(row.accuracy_difference)} of {_points(row.accuracy_tolerance)} points")
    if row.verdict != "equal" and row.macs_difference is not None:
        parts.append(f"MACs {_points(row.macs_difference)} of {_points(row.macs_tolerance)} % of dense's")
    return ", ".join([*parts, *([row.why] if row.why else [])])


def _points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.2f}".replace("+0.00", "0.00").replace("-0.00", "0.00")


def _summary(row: Mapping[str, object]) -> str:
    counts = ", ".join(f"{row[verdict]} {VERDICTS[verdict]}" for verdict in VERDICTS if row[verdict])
    return f"{row['machine']}, committed from {row['committed_cpu']}: {row['runs']} runs: {counts}"


def as_frame(rows: list[Row]) -> pd.DataFrame:
    """A row a run, with COLUMNS."""
    return pd.DataFrame([asdict(row) for row in rows], columns=COLUMNS)


def by_machine(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each machine and each CPU of committed records: runs, verdicts, the largest differences of 1."""
    rows = []
    told_or_empty = frame.astype(dict.fromkeys(MACHINE, object)).fillna(dict.fromkeys(MACHINE, ""))
    for names, part in told_or_empty.groupby(MACHINE, sort=True):
        told = dict(zip(MACHINE, names, strict=True))
        counts = {verdict: int((part["verdict"] == verdict).sum()) for verdict in VERDICTS}
        largest = {f"largest_{name}": part[f"{name}_difference"].abs().max() for name in ("accuracy", "macs")}
        what = [told["gpu"] or told["cpu"], told["cpu_kernels"], f"torch {told['torch']}"]
        rows.append({"machine": ", ".join(filter(None, what)), **told, "runs": len(part), **counts, **largest})
    return pd.DataFrame(rows)


def note(preset_name: str, rows: list[Row]) -> None:
    """Keep rows in results/<preset>/reproduced.csv: of one run on one machine the newest."""
    path = paths.reproduced(preset_name)
    both = pd.concat([noted(preset_name), as_frame(rows)]).drop_duplicates(["run", *MACHINE], keep="last")
    files.write_text(path, both.sort_values(["run", *MACHINE]).to_csv(index=False, lineterminator="\n"))


def noted(preset_name: str) -> pd.DataFrame:
    """What was kept and still holds: rows whose committed record is the one that the store has now.

    Raises LayerpruneError for a file that is not such a table.
    """
    path = paths.reproduced(preset_name)
    text = files.read_text(path) if path.is_file() else ",".join(COLUMNS)
    try:
        kept = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(TEXTS, str)).reindex(columns=COLUMNS)
        kept[NUMBERS].apply(pd.to_numeric)
        there = [_is_in_store(*pair) for pair in zip(kept["run"], kept["committed_record"], strict=True)]
    except (ValueError, TypeError) as error:
        raise LayerpruneError(f"{path}: not a table of fresh runs: {' '.join(str(error).split())}") from None
    return kept[pd.Series(there, index=kept.index, dtype=bool)]


def _is_in_store(run: str, checksum: str) -> bool:
    made = store.stored(paths.parse_run_folder(paths.root() / run))
    return made is not None and made.checksum.startswith(checksum)
