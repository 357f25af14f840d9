"""Do the records on disk still say what this code, these settings and these data would give?

A finding is an error, except those of the kinds NOT_ERRORS: what is legitimate but worth a look.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from layerprune.analysis import literature
from layerprune.analysis.claims import ledger
from layerprune.analysis.frames import WITH_RESULT, read_curve, sorted_keys
from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, store
from layerprune.suite.packing import in_folders
from layerprune.suite.record import LARGEST_GAP, Record
from layerprune.system import paths
from layerprune.system.paths import RunKey

KINDS = {
    "missing": "planned, not run",
    "unreadable": "malformed or altered record, or malformed curves",
    "stale-code": "made by other code than this",
    "stale-config": "made with other settings than the preset's",
    "stale-data": "made from other data than those staged",
    "stale-parent": "starts from a run that has changed or gone",
    "damaged": "files that are not those which the record was written with",
    "failed": "diverged or failed",
    "out-of-range": "contradicts itself or its curves",
    "note": "collapsed, nothing pruned, or a variant that diverged",
    "stale-ledger": "the claims ledger is not what today's records say",
    "unlike-published": "another pattern than the literature reports",
    "unplanned": "on disk, not in the preset",
    "nothing-planned": "a data set of which the preset plans no run",
}
NOT_ERRORS = ("note", "unlike-published", "unplanned", "nothing-planned")
RELATIVE = 1e-6
"""How far a number in curves.csv may be from the record's: rounding on the way through text."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; `where` is a run's key."""

    where: str
    kind: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.kind not in NOT_ERRORS


def verify(preset_name: str, dataset: str | None = None) -> list[Finding]:
    """Check every planned run of a preset (of one dataset), what it starts from, and look for unplanned ones.

    Raises LayerpruneError when the preset cannot be read or has no such dataset.
    """
    preset = config.load_preset(preset_name)
    planned = config.plan(preset, preset_name, dataset)
    # A run may start from a seed of dense or gated that the preset itself does not ask for.
    implied = [parent for key in planned for parent in config.prerequisites(preset, key)]
    keys = sorted_keys(preset, list(dict.fromkeys([*planned, *implied])))
    findings = []
    for key in keys:
        run, problem = _read(key)
        if run is None:
            findings.append(problem)
            continue
        findings += [*_stale(preset, key, run), *_damaged(key, run)]
        findings += [*_status(key, run), *_contradictions(key, run), *_against_curves(key, run)]
        findings += _against_literature(key, run)
    ledgers = _stale_ledger(preset_name) if dataset is None else []
    empty = _nothing_planned(preset_name, [dataset] if dataset else list(preset.datasets), planned)
    return [*findings, *ledgers, *_unplanned(preset_name, dataset, set(keys)), *empty]


def not_current(preset_name: str, dataset: str) -> list[RunKey]:
    """Planned runs whose records are of other code, settings, data or parents than a run of today would be."""
    preset = config.load_preset(preset_name)
    read = {key: _read(key)[0] for key in config.plan(preset, preset_name, dataset)}
    return [key for key, made in read.items() if made is not None and any(_stale(preset, key, made))]


def has_errors(findings: list[Finding]) -> bool:
    return any(finding.is_error for finding in findings)


def report(findings: list[Finding], limit: int = 20) -> str:
    """Findings by kind, errors first, at most `limit` lines a kind; one line if there are none."""
    if not findings:
        return "every planned run exists and is up to date"
    lines = []
    for kind, meaning in KINDS.items():
        found = [finding for finding in findings if finding.kind == kind]
        if found:
            lines.append(f"{kind} ({len(found)}): {meaning}")
            lines += [f"  {finding.where}: {finding.message}" for finding in found[:limit]]
            lines += [f"  ... and {len(found) - limit} more"] if len(found) > limit else []
    errors = sum(finding.is_error for finding in findings)
    return "\n".join([*lines, f"{errors} errors, {len(findings) - errors} notes"])


def _read(key: RunKey) -> tuple[Record | None, Finding]:
    """The record, and what to say if it is missing."""
    try:
        found = store.find(key)
    except LayerpruneError as error:
        return None, Finding(str(key), "unreadable", str(error))
    return found, Finding(str(key), "missing", "no record, in its folder or in the store")


# --- staleness ----------------------------------------------------------------------------------------------------


def _stale(preset: config.Preset, key: RunKey, run: Record) -> Iterator[Finding]:
    try:
        yield from (Finding(str(key), each.kind, each.message) for each in current.differences(preset, run))
    except LayerpruneError as error:
        yield Finding(str(key), "stale-parent", str(error))


def _damaged(key: RunKey, run: Record) -> Iterator[Finding]:
    """Files that are not what the record says. Weights may be absent: those of a campaign stay where it was."""
    in_folder, weights = paths.record(key).is_file(), paths.weights(key).exists()
    found = current.damage(key, run, weights) if in_folder else _damage_in_store(key, run)
    if found is not None:
        yield Finding(str(key), "damaged", found)


def _damage_in_store(key: RunKey, run: Record) -> str | None:
    try:
        store.curves(key), store.arch(key), store.weights(key), store.half_weights(run)
    except LayerpruneError as error:
        return str(error)
    return None


def _stale_ledger(preset_name: str) -> Iterator[Finding]:
    """The ledger's files where one was written; where none was there is nothing to say."""
    if paths.claims(preset_name, "csv").is_file() or paths.claims(preset_name, "md").is_file():
        for path, text in ledger.contents(preset_name).items():
            if not path.is_file() or path.read_bytes() != text.encode():
                yield Finding(str(path), "stale-ledger", f"run: layerprune claims --preset {preset_name}")


# --- results ------------------------------------------------------------------------------------------------


def _status(key: RunKey, run: Record) -> Iterator[Finding]:
    """Default settings have to train. Whether a variant does is what it was asked, and diverging is an answer."""
    text = run.status + (f": {run.reason}" if run.reason else "")
    if run.status == "failed" or (run.status == "diverged" and key.variant == "default"):
        yield Finding(str(key), "failed", text)
    elif run.status != "ok":
        yield Finding(str(key), "note", text)


def _contradictions(key: RunKey, run: Record) -> Iterator[Finding]:
    named = run.key
    left, has_result = sum(run.keep), run.status in WITH_RESULT
    resolved = _digest_of(run.provenance.config)
    checks = {
        f"config_digest {run.provenance.config_digest} is not that of the settings in the record ({resolved})": (
            resolved != run.provenance.config_digest
        ),
        f"record of {named} in the folder of {key}": named != key,
        f"macs {run.macs} exceed macs_dense {run.macs_dense}": run.macs > run.macs_dense,
        f"depth {run.depth} exceeds depth_dense {run.depth_dense}": run.depth > run.depth_dense,
        "all sections are left, yet macs differ from macs_dense": _differs_though_whole(run),
        f"status {run.status} with {left} sections left": not _status_fits(run),
        "no test accuracy": has_result and run.test_accuracy is None,
        "no training MACs": has_result and run.train_macs == 0,
        "train_macs without the parents exceed those with them": run.train_macs < run.train_macs_own,
        "wall_seconds without the parents exceed those with them": run.wall_seconds < run.wall_seconds_own,
        f"equivalence_gap {run.equivalence_gap} exceeds {LARGEST_GAP:g}": not _equivalent(run),
        "removed_step names a section that is left, or a step after the last": not _removals_fit(run),
    }
    yield from (Finding(str(key), "out-of-range", message) for message, wrong in checks.items() if wrong)


def _digest_of(settings: dict) -> str:
    """Digest of a record's settings, or why they have none."""
    try:
        return config.RunSettings.of_record(settings).digest()
    except ValueError as error:
        return " ".join(str(error).split())


def _differs_though_whole(run: Record) -> bool:
    return sum(run.keep) == run.sections_total and run.macs != run.macs_dense


def _status_fits(run: Record) -> bool:
    left = sum(run.keep)
    return {"collapsed": left == 0, "unpruned": left == run.sections_total}.get(run.status, True)


def _equivalent(run: Record) -> bool:
    return run.equivalence_gap is None or run.equivalence_gap <= LARGEST_GAP


def _removals_fit(run: Record) -> bool:
    return all(
        step is None or (not keep and 0 <= step <= run.steps_total)
        for keep, step in zip(run.keep, run.removed_step, strict=True)
    )


def _against_curves(key: RunKey, run: Record) -> Iterator[Finding]:
    """The curves' last row must say what the record says; a failed run need not have curves.

    Sections and MACs are not compared: a method may remove sections after its last epoch.
    """
    if run.status not in WITH_RESULT:
        return
    try:
        curves = read_curve(key)
    except LayerpruneError as error:
        yield Finding(str(key), "unreadable", str(error))
        return
    if curves is None:
        yield Finding(str(key), "out-of-range", "no curves.csv")
        return
    last = curves.iloc[-1]
    if not _epochs_fit(curves, run.epochs):
        ends = f"curves.csv ends with epoch {last['epoch']} at step {last['step']:.0f}"
        yield Finding(str(key), "out-of-range", f"{ends}, the record says {run.epochs}")
    for name, value in {"step": run.steps_total, "train_macs": run.train_macs}.items():
        if name not in curves or not _near(last[name], value):
            shown = last[name] if name in curves else "absent"
            yield Finding(str(key), "out-of-range", f"curves.csv ends with {name} {shown}, the record says {value}")


def _epochs_fit(curves: pd.DataFrame, recorded: float) -> bool:
    """Whether the curves count epochs as the record does: by steps, a whole number of which make an epoch.

    Training may end within an epoch, which its row in the curves counts as a whole one.
    """
    epochs, steps = curves["epoch"], curves["step"]
    ended, step = epochs.iloc[-1], steps.iloc[-1]
    if not (recorded > 0 and step > 0):
        return bool(ended == recorded)
    in_an_epoch = max(1, round(step / recorded))
    fits = _near(step / in_an_epoch, recorded) and _near(ended, math.ceil(step / in_an_epoch))
    return fits and all(map(_near, epochs[:-1], steps[:-1] / in_an_epoch))


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= RELATIVE * max(abs(other), 1)


def _against_literature(key: RunKey, run: Record) -> Iterator[Finding]:
    yield from (Finding(str(key), "out-of-range", message) for message in literature.wrong_counts(run))
    if run.status in WITH_RESULT:
        yield from (Finding(str(key), "unlike-published", message) for message in literature.unlike_published(run))


def _nothing_planned(preset_name: str, asked: list[str], planned: list[RunKey]) -> Iterator[Finding]:
    for dataset in asked:
        if dataset not in {key.dataset for key in planned}:
            yield Finding(f"{preset_name}/{dataset}", "nothing-planned", config.NO_RUNS)


def _unplanned(preset_name: str, dataset: str | None, planned: set[RunKey]) -> Iterator[Finding]:
    """Runs with a record, in a folder or in the store, that the preset does not name."""
    datasets = [dataset] if dataset else sorted(path.name for path in paths.results(preset_name).glob("*"))
    in_store = [key for each in datasets for key in store.keys(preset_name, each)]
    for key in sorted({*in_folders(preset_name, dataset), *in_store} - planned):
        yield Finding(str(key), "unplanned", "not in the preset: delete it, or add it to the preset")
