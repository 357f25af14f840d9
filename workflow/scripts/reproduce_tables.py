"""Writes the tables of docs/reproduce.md: what each claim and network should come out at, and on which machines it did.

python workflow/scripts/reproduce_tables.py

Expected values are means over the committed runs of the preset laptop; tolerances are those of
`layerprune check-reproduction`; minutes are the runs' own wall times added up, two runs at a time. Memory is that of
the run that took most, among records that say it and rows of reproduced.csv made on CPUs; that of
first steps is what bench/run_memory.py measured.
"""

import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import page_tables
import pandas as pd

from layerprune.analysis import reproduction
from layerprune.analysis.claims import ledger, needs
from layerprune.analysis.frames import WITH_RESULT
from layerprune.suite import config, store
from layerprune.suite.record import Record
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduce.md"
FIRST_STEPS = ROOT / "bench" / "measured" / "memory-of-runs.csv"
PRESET = "laptop"
ON_GPUS = "published-width"
STARTS = ("dense", "gated", "hard-concrete", "sss")
"""Methods of the figure on the front page, on residual MLPs."""
VERDICTS = ["supported", "not supported", "inconclusive", "not run"]
MEMORY = ["memory of a run, GB", "of its first steps, GB"]


def tables() -> str:
    """Markdown. Everything in it comes from records, and from rows of reproduced.csv whose records are still there."""
    judged = ledger.entries(PRESET)
    parts = [
        "## Claims",
        ledger.summary(judged),
        _conditions(judged),
        "## What each takes",
        _costs(),
        _agreement(),
        _on_gpus(),
        "## Networks",
        _networks(),
        "## The figure on the front page",
        _figure(),
        "## Reproduced on",
        _machines(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(heads: list[str], rows: list[list[str]], words: int = 1) -> str:
    """So many columns to the left, the others to the right."""
    lines = [heads, [":---"] * words + ["---:"] * (len(heads) - words), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# --- claims -------------------------------------------------------------------------------------------------------


def _conditions(judged: list[ledger.Entry]) -> str:
    """A row for each condition that decides a claim: on how many networks, or comparisons on networks, it holds."""
    parts = [each.rows.assign(claim=each.id) for each in judged]
    parts += [found.rows.assign(claim=f"{each.id}, {name}") for each in judged for name, found in each.also.items()]
    counts = pd.concat(parts).groupby(["claim", "bound", "verdict"], sort=False).size().unstack(fill_value=0)
    told = counts.reindex(columns=VERDICTS, fill_value=0)
    rows = [[claim, f"`{bound}`", *map(str, row)] for (claim, bound), *row in told.itertuples(name=None)]
    return _table(["claim", "condition", *VERDICTS], rows, words=2)


# --- what each takes ----------------------------------------------------------------------------------------------


def of_table() -> list[RunKey]:
    """Runs of the table on the front page."""
    return needs.like(["dense/default", "gated/default"], PRESET)


def of_figure() -> list[RunKey]:
    """Runs of the figure on the front page."""
    starts = needs.like([f"{name}/default" for name in STARTS], PRESET, "mnist")
    return [key for key in starts if key.arch.startswith("mlp-residual")]


def _costs() -> str:
    """A row for each claim, for the front page's table and figure, and for the tables and figures of a data set."""
    rows = [_cost(claim, f"`plan --claim {claim}`", needs.runs_of(claim, PRESET)) for claim in needs.DECIDED_BY]
    rows += [_cost("table on the front page", "[filter](#one-table-or-figure)", of_table())]
    rows += [_cost("figure on the front page", "[filter](#one-table-or-figure)", of_figure())]
    for dataset in config.load_preset(PRESET).datasets:
        named = f"tables and figures of {dataset}"
        rows.append(_cost(named, f"`snakemake {dataset} -F`", needs.like(["*"], PRESET, dataset)))
    return _table(["what", "command", "runs", "minutes", *MEMORY], rows, words=2)


def _cost(what: str, command: str, keys: list[RunKey]) -> list[str]:
    runs = [made for key in keys if (made := store.stored(key)) is not None]
    count = str(len(keys)) if len(runs) == len(keys) else f"{len(runs)} of {len(keys)}"
    return [what, command, count, _minutes(runs), _memory(runs), _memory_at_first(runs)]


def _on_gpus() -> str:
    """What runs took on GPUs, a row for each network; of a run in a lane the GPU's share is one of so many."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for dataset in config.load_preset(ON_GPUS).datasets:
        for made in map(store.stored, store.keys(ON_GPUS, dataset)):
            if made.provenance.gpu and made.wall_seconds_own:
                groups.setdefault((made.provenance.gpu, dataset, made.arch), []).append(made)
    heads = ["GPU", f"data set, network of `{ON_GPUS}`", "runs", "minutes of a run", "minutes of the GPU"]
    return _table(heads, [_on_gpu(*names, runs) for names, runs in groups.items()], words=2)


def _on_gpu(gpu: str, dataset: str, arch: str, runs: list[Record]) -> list[str]:
    minutes = [each.wall_seconds_own / 60 for each in runs]
    shares = [each / (made.provenance.lanes or 1) for each, made in zip(minutes, runs, strict=True)]
    told = f"{min(minutes):.1f} to {max(minutes):.1f}" if len(runs) > 1 else f"{minutes[0]:.1f}"
    return [gpu, f"{dataset}, {arch}", str(len(runs)), told, f"{sum(shares):.1f}"]


def _minutes(runs: list[Record]) -> str:
    return f"{sum(each.wall_seconds_own for each in runs) / 60 / 2:.0f}"


def _memory(runs: list[Record]) -> str:
    """The most that a run of these took where it is told, here or where it was made again; of how many it is told."""
    noted = _noted_on_cpus().groupby("run")["memory"].max()
    again = [float(noted[str(each.key)]) for each in runs if str(each.key) in noted.index]
    return _most([each.memory_bytes for each in runs if each.memory_bytes] + again)


def _noted_on_cpus() -> pd.DataFrame:
    """Fresh runs whose memory is known. Beside a GPU a process has the driver's memory too."""
    noted = reproduction.noted(PRESET)
    return noted[noted["gpu"].isna()].dropna(subset="memory")


def _memory_at_first(runs: list[Record]) -> str:
    """The same of first steps."""
    measured = _first_steps()
    return _most([measured[name] for each in runs if (name := str(each.key)) in measured])


def _most(told: list[float]) -> str:
    return f"{max(told) / 1e9:.1f} ({len(told)})" if told else "not recorded"


def _first_steps() -> dict[str, float]:
    """Run -> the most memory that its first steps took, in bytes."""
    return pd.read_csv(FIRST_STEPS).set_index("run")["memory"].to_dict()


def _agreement() -> str:
    """How near the memory of first steps is to that of the whole run, where both are known."""
    whole, first = _noted_on_cpus().groupby("run")["memory"].max(), _first_steps()
    shares = sorted(first[name] / value for name, value in whole.items() if name in first)
    if len(shares) == 1:
        return f"Of one run both kinds of memory are known: its first steps took {shares[0]:.2f} times the run's."
    least, median, most = (f"{share:.2f}" for share in (shares[0], statistics.median(shares), shares[-1]))
    told = f"the first steps took {least} to {most} of the run's, {median} in the median"
    return f"Of {len(shares)} runs both kinds of memory are known: {told}."


# --- networks -----------------------------------------------------------------------------------------------------


def _networks() -> str:
    heads = [
        "target",
        "runs",
        "minutes",
        *MEMORY,
        "dense accuracy, %",
        "gated accuracy, %",
        "gated MACs, % of dense's",
    ]
    return _table(heads, [_network(*each) for each in _by_network()])


def _by_network() -> Iterator[tuple[str, str, list[Record], reproduction.Spreads]]:
    """Data set, network, its committed runs, and how far seeds are from one another on the data set."""
    preset = config.load_preset(PRESET)
    for dataset, block in preset.datasets.items():
        runs = [store.stored(key) for key in store.keys(PRESET, dataset)]
        spreads = reproduction.Spreads(runs)
        for arch in block.archs:
            yield dataset, arch, [each for each in runs if each.arch == arch], spreads


def _network(dataset: str, arch: str, runs: list[Record], spreads: reproduction.Spreads) -> list[str]:
    target = f"`{dataset}_{arch.replace('-', '').replace('.', '')}`"
    cells = [_expected(runs, "dense", "test_accuracy", spreads)]
    cells += [_expected(runs, "gated", quantity, spreads) for quantity in reproduction.QUANTITIES]
    return [target, str(len(runs)), _minutes(runs), _memory(runs), _memory_at_first(runs), *cells]


def _expected(runs: list[Record], method: str, quantity: str, spreads: reproduction.Spreads) -> str:
    """Mean over seeds of a method's default settings, and how far a single run may be from its committed one."""
    own = [each for each in runs if each.method == method and each.variant == "default" and each.status in WITH_RESULT]
    if not own:
        return "–"
    values = [reproduction.numbers(each)[quantity] for each in own]
    allowed = spreads.tolerance(quantity, own[0].arch, method)
    tolerance = "" if allowed is None else f" ± {100 * allowed:.1f}"
    return f"{100 * statistics.mean(values):.1f}{tolerance} ({len(values)})"


# --- the figure on the front page -----------------------------------------------------------------------------------


def _figure() -> str:
    """A row for each network and method: sections left, accuracy and multiply-adds."""
    runs = [made for key in of_figure() if (made := store.stored(key)) is not None]
    spreads = reproduction.Spreads([store.stored(key) for key in store.keys(PRESET, "mnist")])
    heads = ["network", "method", "sections left", "accuracy, %", "MACs, % of dense's"]
    rows = [
        _marks(runs, arch, method, spreads) for arch in dict.fromkeys(each.arch for each in runs) for method in STARTS
    ]
    return _table(heads, rows, words=2)


def _marks(runs: list[Record], arch: str, method: str, spreads: reproduction.Spreads) -> list[str]:
    own = [each for each in runs if (each.arch, each.method) == (arch, method) and each.status in WITH_RESULT]
    left = sorted(sum(each.keep) for each in own)
    cells = [_expected(own, method, quantity, spreads) for quantity in reproduction.QUANTITIES]
    return [arch, method, f"{statistics.mean(left):.1f}, {left[0]} to {left[-1]} ({len(left)})", *cells]


# --- machines -----------------------------------------------------------------------------------------------------


def _machines() -> str:
    heads = ["machine", "committed from", "runs", *reproduction.VERDICTS.values()]
    heads += ["largest difference of accuracy, points", "of MACs, % of dense's"]
    found = reproduction.by_machine(reproduction.noted(PRESET)).to_dict("records")
    return _made_on() + (f"\n\n{_table(heads, [_machine(row) for row in found])}" if found else "")


def _machine(row: dict) -> list[str]:
    counts = [str(row[name]) for name in ("runs", *reproduction.VERDICTS)]
    largest = [f"{100 * row[f'largest_{name}']:.2f}" for name in ("accuracy", "macs")]
    return [row["machine"], row["committed_cpu"], *counts, *largest]


def _made_on() -> str:
    """Where the committed records come from, most runs first."""
    datasets = config.load_preset(PRESET).datasets
    runs = [store.stored(key).provenance for dataset in datasets for key in store.keys(PRESET, dataset)]
    counts = Counter(f"{machine.gpu or machine.cpu}, torch {machine.torch}" for machine in runs)
    return f"The committed runs: {'; '.join(f'{count} on {what}' for what, count in counts.most_common())}."


if __name__ == "__main__":
    PAGE.write_text(page_tables.filled(PAGE, {"tables": tables()}), encoding="utf-8")
