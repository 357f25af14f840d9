"""Show on any machine that changed code makes what older code made: run both, here and now, and compare bit by bit.

Records come out bit-equal only on a machine like the one that made them (see layerprune.requalify); two codes can be
compared on every machine. The older one is taken out of the repository's history. Each is given the presets of its own
time, since settings come and are renamed; a witness that they ask for differently is none. The witnesses are short: of
every method one run of a small preset, of every architecture of a data set one epoch of its dense network. Records
whose method and whose network both have a witness that came out equal, and which that older code made, take the new
digest. Imports no torch.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from layerprune import config, files, paths, record
from layerprune.config import Preset
from layerprune.errors import LayerpruneError
from layerprune.paths import RunKey
from layerprune.requalify import Group, Say, group_of, outcomes_of, records_of, renew, stale_by_code_alone

_DIGESTS = "import json, sys; from layerprune.provenance import source_digest; " + (
    "print(json.dumps([source_digest(*group) for group in json.loads(sys.argv[1])]))"
)


@dataclass(frozen=True)
class Code:
    """A version of the code: the folder of its packages, and where its runs' files lie."""

    source: Path
    root: Path

    def call(self, preset: Preset, *words: str) -> str:
        """Run Python with this code; returns what it prints. Raises LayerpruneError with the last line of complaint."""
        environment = config.environment_below(self.root, preset) | {"PYTHONPATH": str(self.source.resolve())}
        command = [sys.executable, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            told = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
            raise LayerpruneError(f"{self.source}: {' '.join(words)}: {told[-1]}")
        return done.stdout


def requalify_against(preset_name: str, commit: str, small_name: str, jobs: int, say: Say) -> list[RunKey]:
    """Compare with the code of a commit and renew the records that it made; returns the witnesses that differ.

    Raises LayerpruneError for an unknown commit and where a witness cannot be run.
    """
    preset = config.load_preset(preset_name)
    records = records_of(preset, preset_name, None)
    stale = [key for key in records if stale_by_code_alone(preset, key, records[key])]
    then = _checked_out(commit)
    older = Code(then / "src", paths.requalification(preset_name) / "older")
    newer = Code(Path(__file__).parent.parent, paths.requalification(preset_name) / "newer")
    made = _made_by(older, preset, records, stale)
    say(f"{len(stale)} records of {preset_name} are stale by their code, {len(made)} of them made by {commit}")
    _write_presets(older, then, preset_name, small_name)
    _write_presets(newer, paths.root(), preset_name, small_name)
    small = config.read_preset(_preset_file(newer, small_name))
    methods = _of_methods(small, small_name, {key.method for key in made})
    networks = _of_networks(preset_name, {(key.dataset, key.arch) for key in made})
    witnesses = [*methods.values(), *networks.values()]
    for parents in (True, False):  # two processes must not make the same parent
        wave = [key for key in _with_parents(small, small_name, witnesses) if _is_parent(key) == parents]
        _run_all(wave, (older, newer), preset, jobs, say)
    differing = [key for key in witnesses if _asked_and_made(older, key) != _asked_and_made(newer, key)]
    for key in differing:
        say(f"differs: {key}")
    equal = {key for key in witnesses if key not in differing}
    spoken_for = {key: (methods.get(key.method), networks[key.dataset, key.arch]) for key in made}
    named = {
        key: f"{method} and an epoch of {network}, with the code of {commit} and with this"
        for key, (method, network) in spoken_for.items()
        if method in equal and network in equal
    }
    renew(records, named)
    say(f"{len(named)} records of {preset_name} are current again")
    return differing


def _checked_out(commit: str) -> Path:
    """The packages and presets of a commit, in a folder of the project."""
    top = Path(__file__).parent.parent.parent
    try:
        # A branch or HEAD moves on: the folder is named after what it means now.
        name = _git(top, "rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
        packed = _git(top, "archive", name, "src", "config")
    except (OSError, subprocess.CalledProcessError):
        raise LayerpruneError(f"--against: no commit '{commit}' in the history of {top}") from None
    folder = paths.root() / "state" / "requalify" / "code" / name
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(top: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(top), *words], capture_output=True, check=True).stdout


def _made_by(older: Code, preset: Preset, records: dict, stale: list[RunKey]) -> list[RunKey]:
    """The stale records that the older code made, by their digests."""
    groups: list[Group] = sorted({group_of(key) for key in stale})
    digests = dict(zip(groups, json.loads(older.call(preset, "-c", _DIGESTS, json.dumps(groups))), strict=True))
    return [key for key in stale if records[key].provenance.source_digest == digests[group_of(key)]]


def _of_methods(small: Preset, small_name: str, wanted: set[str]) -> dict[str, RunKey]:
    """A run of each wanted method that the small preset has: its main setting, the first network and seed."""
    keys = [key for key in config.plan(small, small_name) if key.variant == "default" and key.method in wanted]
    return {key.method: key for key in reversed(keys)}


def _of_networks(preset_name: str, networks: Iterable[tuple[str, str]]) -> dict[tuple[str, str], RunKey]:
    return {each: RunKey(f"{preset_name}-epoch", *each, "dense", "default", 0) for each in networks}


def _asked_and_made(code: Code, key: RunKey) -> tuple:
    """The settings that a witness had, and what became of it."""
    path = code.root / paths.record(key).relative_to(paths.root())
    return record.read(path).provenance.config_digest, *outcomes_of(code.root, key)


def _write_presets(code: Code, home: Path, preset_name: str, small_name: str) -> None:
    """The small preset, and the other with trainings of one epoch, as they are at home, or today's."""
    texts = {name: _preset_text(home, name) for name in (preset_name, small_name)}
    files.write_text(_preset_file(code, small_name), texts[small_name])
    short = config.with_trainings_of_one_epoch(texts[preset_name])
    files.write_text(_preset_file(code, f"{preset_name}-epoch"), short)


def _preset_text(home: Path, name: str) -> str:
    own = home / "config" / f"{name}.yaml"
    return (own if own.is_file() else paths.preset_file(name)).read_text(encoding="utf-8")


def _preset_file(code: Code, name: str) -> Path:
    return code.root / "config" / f"{name}.yaml"


def _with_parents(small: Preset, small_name: str, witnesses: list[RunKey]) -> list[RunKey]:
    parents = [base for key in witnesses if key.preset == small_name for base in config.prerequisites(small, key)]
    return list(dict.fromkeys([*parents, *witnesses]))


def _is_parent(key: RunKey) -> bool:
    """Whether other runs may start from it; it starts from none itself."""
    return key.method in ("dense", "gated")


def _run_all(keys: list[RunKey], codes: tuple[Code, Code], preset: Preset, jobs: int, say: Say) -> None:
    def make(key: RunKey, code: Code) -> RunKey:
        names = ("preset", "dataset", "arch", "method", "variant", "seed")
        code.call(
            preset,
            "-m",
            "layerprune",
            "run",
            *(word for name in names for word in (f"--{name}", str(getattr(key, name)))),
        )
        return key

    with ThreadPoolExecutor(jobs) as pool:
        for key in pool.map(lambda pair: make(*pair), [(key, code) for key in keys for code in codes]):
            say(f"made: {key}")
