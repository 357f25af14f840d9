"""Every file name of the suite, one line each. Nothing else spells a path.

All paths hang below one root: the current folder, or LAYERPRUNE_ROOT where it is set (tests use it).
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class RunKey:
    """What names one training run. Its text form is the run's folder below results/."""

    preset: str
    dataset: str
    arch: str
    method: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.preset}/{self.dataset}/{self.arch}/{self.method}/{self.variant}/seed{self.seed}"


def root() -> Path:
    return Path(os.environ.get("LAYERPRUNE_ROOT", "."))


def preset_file(preset: str) -> Path:
    return root() / "config" / f"{preset}.yaml"


def claim_rules() -> Path:
    return root() / "config" / "claims" / "rules.yaml"


def campaign_file(name: str) -> Path:
    return root() / "config" / "campaigns" / f"{name}.yaml"


def campaign_archives() -> Path:
    """Where campaigns leave their archives unless told otherwise."""
    return root() / "campaigns"


def campaign_summary() -> Path:
    """The summary in an archive, whose names are those below the root."""
    return Path("summary.md")


def data_root() -> Path:
    return root() / "data"


def decoded(name: str) -> Path:
    """Images of a data set as one tensor, kept so that they are decoded once."""
    return data_root() / "decoded" / f"{name}.npz"


def results(preset: str) -> Path:
    return root() / "results" / preset


def run_folder(key: RunKey) -> Path:
    return root() / "results" / str(key)


def record(key: RunKey) -> Path:
    return record_in(run_folder(key))


def curves(key: RunKey) -> Path:
    return curves_in(run_folder(key))


def arch(key: RunKey) -> Path:
    return arch_in(run_folder(key))


def arch_in(folder: Path) -> Path:
    """The network's description in a run's folder, wherever that was moved."""
    return folder / "arch.json"


def exported_in(folder: Path, suffix: str) -> Path:
    """A run's network as a file for elsewhere."""
    return folder / f"network.{suffix}"


def weights(key: RunKey) -> Path:
    return weights_in(run_folder(key))


def weights_in(folder: Path) -> Path:
    """The weights in a run's folder, wherever that is."""
    return folder / "weights.safetensors"


def state(key: RunKey) -> Path:
    return root() / "state" / str(key) / "state.pt"


def lock(key: RunKey) -> Path:
    return root() / "state" / str(key) / "lock"


def pack_lock(preset: str, dataset: str) -> Path:
    return root() / "state" / preset / dataset / "pack.lock"


def record_in(folder: Path) -> Path:
    """The record in a run's folder, wherever that is."""
    return folder / "record.json"


def curves_in(folder: Path) -> Path:
    """The curves in a run's folder, wherever that is."""
    return folder / "curves.csv"


def stored_records(preset: str, dataset: str) -> Path:
    """The store: a record a line."""
    return results(preset) / dataset / "records.jsonl"


def stored_texts(preset: str, dataset: str) -> Path:
    """Curves and descriptions of the networks of the stored runs."""
    return results(preset) / dataset / "curves.jsonl.xz"


def stored_arrays(preset: str, dataset: str) -> Path:
    """What is long in the stored records."""
    return results(preset) / dataset / "arrays.jsonl.xz"


def stored_part(path: Path, number: int | str) -> Path:
    """A further part of a compressed file of the store, arrays.2.jsonl.xz; the first has the file's own name."""
    return path if number == 1 else path.with_name(path.name.replace(".", f".{number}.", 1))


def stored_weights(key: RunKey) -> Path:
    """Weights of a headline network as they were trained."""
    return _stored_weights(key, "safetensors")


def half_weights(key: RunKey) -> Path:
    """The same in half precision, which most are stored in."""
    return _stored_weights(key, "float16.safetensors")


def all_stored_weights() -> list[Path]:
    """Those of every preset."""
    return sorted(root().glob("results/*/*/weights/*"))


def _stored_weights(key: RunKey, suffix: str) -> Path:
    name = f"{key.arch}.{key.method}.{key.variant}.seed{key.seed}.{suffix}"
    return results(key.preset) / key.dataset / "weights" / name


def data_manifest(preset: str, dataset: str) -> Path:
    return results(preset) / dataset / "data.json"


def runs_table(preset: str, dataset: str) -> Path:
    return results(preset) / dataset / "runs.csv"


def summary_table(preset: str, dataset: str) -> Path:
    return results(preset) / dataset / "summary.csv"


def latency_table(preset: str, dataset: str) -> Path:
    return results(preset) / dataset / "latency.csv"


def latency_in(folder: Path) -> Path:
    """Latencies of the network in a run's folder, wherever that is."""
    return folder / "latency.csv"


def latency_lock() -> Path:
    """Held while latency is measured, whatever the preset: two measurements at once would disturb each other."""
    return root() / "state" / "latency.lock"


def table(preset: str, dataset: str, suffix: str) -> Path:
    return results(preset) / "tables" / f"{dataset}.{suffix}"


def compact_table(preset: str, dataset: str, arch: str, suffix: str) -> Path:
    """One network's table in the form of the literature."""
    return results(preset) / "tables" / dataset / f"{arch}.{suffix}"


def published_table(preset: str, dataset: str, suffix: str) -> Path:
    return results(preset) / "tables" / "published" / f"{dataset}.{suffix}"


def claims(preset: str, suffix: str) -> Path:
    return results(preset) / f"claims.{suffix}"


def headline(preset: str) -> Path:
    """Dense and gated on the networks with the most seeds."""
    return results(preset) / "headline.csv"


def reproduced(preset: str) -> Path:
    """What fresh runs of committed ones gave, and on which machine."""
    return results(preset) / "reproduced.csv"


def figure(preset: str, dataset: str, name: str, suffix: str) -> Path:
    return root() / "figures" / preset / dataset / f"{name}.{suffix}"


def figure_index(preset: str, dataset: str) -> Path:
    """Which figures a data set has and what is missing; a README, so that code hosts show it with the folder."""
    return root() / "figures" / preset / dataset / "README.md"


def pages() -> list[Path]:
    """Markdown with generated parts or figures: README.md and docs/, as far as they exist."""
    return [page for page in (root() / "README.md", *sorted((root() / "docs").rglob("*.md"))) if page.is_file()]


def report(preset: str) -> Path:
    return root() / "report" / f"{preset}.html"


def parse_run_folder(folder: Path) -> RunKey:
    """The key of a run's folder, whatever stands before `results/`. Raises ValueError for any other folder."""
    *_, preset, dataset, arch_slug, method, variant, seed = folder.parts
    if not seed.startswith("seed") or not seed[4:].isdigit():
        raise ValueError(f"{folder}: not a run folder (…/<preset>/<dataset>/<arch>/<method>/<variant>/seed<k>)")
    return RunKey(preset, dataset, arch_slug, method, variant, int(seed[4:]))
