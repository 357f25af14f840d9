"""Keep results current when the code behind them was rearranged: show by running that it still makes them.

Records name the code that made them; a change to that code makes them stale, also where it changes no number. For every
data set, architecture and method whose code has changed, one run, the witness, is made anew from the start. Where the
witness comes out bit-equal to its record (network, accuracies, costs, every epoch's curves; not the times), the records
of that data set, architecture and method take the new digest and name the witness; where it does not, they stay stale.
It is a sample: the other seeds and variants are not run. A smaller one, `covering`, has a witness of every method, on
whichever data set it takes least time, and one of every architecture of a data set, not of every pair of them. What one
preset's witnesses have shown another preset's records can take over. Imports no torch.
"""

import csv
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from layerprune import config, files, paths, provenance, record
from layerprune.config import Preset
from layerprune.errors import LayerpruneError
from layerprune.paths import RunKey
from layerprune.record import Record

Group = tuple[str, str, str]
"""Data set, architecture and method: what a source digest belongs to."""
Say = Callable[[str], None]


def requalify(preset_name: str, dataset: str | None, jobs: int, say: Say, covering: bool = False) -> list[RunKey]:
    """Run the witnesses, `jobs` at a time, and renew the records that they speak for; returns those that differ.

    Raises LayerpruneError when a witness cannot be run.
    """
    preset = config.load_preset(preset_name)
    records = records_of(preset, preset_name, dataset)
    stale = [key for key in records if stale_by_code_alone(preset, key, records[key])]
    witnesses = _witnesses(stale)
    if covering:
        witnesses = _covering(preset, witnesses, records)
    say(f"{len(stale)} records of {preset_name} are stale by their code, {len(witnesses)} witnesses are to be run")
    _run_all(preset, preset_name, list(witnesses.values()), jobs, say)
    differing = [key for key in witnesses.values() if not _same(key, records[key])]
    for key in differing:
        say(f"differs: {key}")
    speakers = {group_of(key): _speakers(group_of(key), witnesses) for key in stale}
    refuted = {group for group, speaking in speakers.items() if set(speaking) & set(differing)}
    holding = {key for key in stale if _holds(preset, key, refuted)}
    renew(records, {key: _named(key, speakers[group_of(key)]) for key in holding})
    return differing


def take_over(preset_name: str, other_name: str, dataset: str | None, say: Say) -> None:
    """Renew the stale records of a preset whose code another preset's witnesses have shown to make the same."""
    preset = config.load_preset(preset_name)
    records = records_of(preset, preset_name, dataset)
    shown: dict[tuple[Group, str], str] = {}
    for key, made in records_of(config.load_preset(other_name), other_name, dataset).items():
        if made.provenance.source_digest == provenance.source_digest(*group_of(key)):
            shown |= {(group_of(key), each["source_digest"]): each["witness"] for each in made.provenance.requalified}
    stale = [key for key in records if stale_by_code_alone(preset, key, records[key])]
    named = {key: shown.get((group_of(key), records[key].provenance.source_digest)) for key in stale}
    renew(records, {key: witness for key, witness in named.items() if witness is not None})
    taken = sum(witness is not None for witness in named.values())
    say(f"{len(stale)} records of {preset_name} are stale by their code, {other_name} speaks for {taken} of them")


def records_of(preset: Preset, preset_name: str, dataset: str | None) -> dict[RunKey, Record]:
    """The records that there are of a preset's runs (of one data set), base runs first."""
    keys = config.plan(preset, preset_name, dataset)
    return {key: record.read(paths.record(key)) for key in keys if paths.record(key).is_file()}


def group_of(key: RunKey) -> Group:
    """What a run's source digest belongs to."""
    return key.dataset, key.arch, key.method


def stale_by_code_alone(preset: Preset, key: RunKey, made: Record) -> bool:
    """Whether a record has today's settings and another code's digest."""
    same_settings = made.provenance.config_digest == config.resolve(preset, key).digest()
    return same_settings and made.provenance.source_digest != provenance.source_digest(*group_of(key))


def _witnesses(stale: list[RunKey]) -> dict[Group, RunKey]:
    """Of each group the main setting with the lowest seed."""
    ranked = sorted(stale, key=lambda key: (key.variant != "default", key.seed, key.variant))
    return {group_of(key): key for key in reversed(ranked)}


def _covering(preset: Preset, witnesses: dict[Group, RunKey], records: dict[RunKey, Record]) -> dict[Group, RunKey]:
    """Of every method the witness that took the least time, one of every architecture, and what these start from."""
    by_time = sorted(witnesses.values(), key=lambda key: records[key].wall_seconds_own)
    methods = {key.method: key for key in reversed(by_time)}
    archs = {(key.dataset, key.arch): key for key in reversed(by_time)}
    archs |= {(key.dataset, key.arch): key for key in methods.values()}
    chosen = {*methods.values(), *archs.values()}
    chosen |= {base for key in chosen for base in config.prerequisites(preset, key)} & set(witnesses.values())
    return {group: key for group, key in witnesses.items() if key in chosen}


def _speakers(group: Group, witnesses: dict[Group, RunKey]) -> list[RunKey]:
    """The group's own witness; without one all with its method and all with its architecture on its data set."""
    if group in witnesses:
        return [witnesses[group]]
    *network, method = group
    return [key for key in witnesses.values() if [key.dataset, key.arch] == network or key.method == method]


def _named(key: RunKey, speakers: list[RunKey]) -> str:
    """The witnesses of a record, for its readers: one, or the method's and how many of the architecture's."""
    own = [str(each) for each in speakers if each.method == key.method]
    others = len(speakers) - len(own)
    return ", ".join([*own, f"{others} of {key.arch}"] if others else own)


def _holds(preset: Preset, key: RunKey, refuted: set[Group]) -> bool:
    return not {group_of(each) for each in [key, *config.prerequisites(preset, key)]} & refuted


# --- running ------------------------------------------------------------------------------------------------


def _again(preset_name: str, path: Path) -> Path:
    """Where a witness has what a run has at `path`: below a root of its own, which outlives a kill."""
    return paths.requalification(preset_name) / path.relative_to(paths.root())


def _run_all(preset: Preset, preset_name: str, witnesses: list[RunKey], jobs: int, say: Say) -> None:
    original = paths.preset_file(preset_name)
    files.write_text(_again(preset_name, original), original.read_text())
    environment = config.environment_below(paths.requalification(preset_name), preset)
    # Parents first: two processes must not make the same parent.
    for depth in (0, 1):
        wave = [key for key in witnesses if bool(config.prerequisites(preset, key)) == bool(depth)]
        with ThreadPoolExecutor(jobs) as pool:
            for key in pool.map(lambda key: _run(key, environment), wave):
                say(f"made again: {key}")


def _run(key: RunKey, environment: dict[str, str]) -> RunKey:
    names = ("preset", "dataset", "arch", "method", "variant", "seed")
    words = [word for name in names for word in (f"--{name}", str(getattr(key, name)))]
    done = subprocess.run(
        [sys.executable, "-m", "layerprune", "run", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]  # a killed one says nothing
        raise LayerpruneError(f"{key}: cannot be run again: {told[-1]}")
    return key


# --- comparing and renewing -----------------------------------------------------------------------------------


def _same(key: RunKey, made: Record) -> bool:
    here = _outcome(made), _curves(paths.curves(key))
    return outcomes_of(_again(key.preset, paths.root()), key) == here


def outcomes_of(root: Path, key: RunKey) -> tuple[dict, list[dict[str, str]]]:
    """What a run below a root came to, and its curves, without times and provenance."""
    made, curves = (root / path(key).relative_to(paths.root()) for path in (paths.record, paths.curves))
    return _outcome(record.read(made)), _curves(curves)


def _outcome(made: Record) -> dict:
    return {name: value for name, value in made.comparable().items() if name != "provenance"}


def _curves(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return [
            {name: value for name, value in row.items() if name != "wall_seconds"} for row in csv.DictReader(stream)
        ]


def renew(records: dict[RunKey, Record], witnesses: dict[RunKey, str]) -> None:
    """Write new digests where there is a witness, base runs first: a run names the digests of those it starts from."""
    before = {str(key): _digests_so_far(made) for key, made in records.items()}
    after: dict[str, str] = {}
    for key, made in records.items():
        source = made.provenance
        parents = {
            name: after[name] if digest in before.get(name, ()) else digest for name, digest in source.parents.items()
        }
        changes: dict = {"parents": parents}
        if key in witnesses:
            entry = {
                "source_digest": source.source_digest,
                "witness": witnesses[key],
                "commit": provenance.commit() or "",
            }
            changes["source_digest"] = provenance.source_digest(*group_of(key))
            changes["requalified"] = [*source.requalified, entry]
        renewed = made.model_copy(update={"provenance": source.model_copy(update=changes)})
        after[str(key)] = renewed.digest()
        if renewed != made:
            record.write(paths.record(key), renewed)


def _digests_so_far(made: Record) -> set[str]:
    """A record's digest now and under the codes that made it before: a child brought from elsewhere may name these."""
    source = made.provenance
    codes = [source.source_digest, *(entry["source_digest"] for entry in source.requalified)]
    variants = (source.model_copy(update={"source_digest": code}) for code in codes)
    return {made.model_copy(update={"provenance": variant}).digest() for variant in variants}
