"""Fresh runs are told apart from committed ones bit by bit, and judged by how far seeds are from one another."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import made_up_runs as made_up
import pandas as pd
import pytest
from conftest import REPOSITORY, Outcome, run_module

from layerprune.analysis import reproduction
from layerprune.errors import LayerpruneError
from layerprune.suite import config, packing, store
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

SEEDS = (0, 1, 2, 3, 4)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunKey]:
    """dense and gated on mlp-residual-10 with five seeds, in folders and, the same records, in the store."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    keys = made_up.write_study(made_up.preset({"mlp-residual-10": {}}, ["dense", "gated"], SEEDS))
    commit()
    return keys


def commit() -> None:
    """Take what lies in folders into the store."""
    for run in packing.in_folders(made_up.PRESET):
        files.write_text(paths.arch(run), "{}")
    list(packing.pack(made_up.PRESET, [made_up.DATASET], weights=False))


def key(method: str = "gated", seed: int = 0) -> RunKey:
    return RunKey(made_up.PRESET, made_up.DATASET, "mlp-residual-10", method, "default", seed)


def again(run: RunKey, **changes: object) -> None:
    """Make a run anew: later, and with what else is to be different."""
    made_up.change(run, finished_at="2026-01-01T00:00:00Z", **changes)


def only() -> reproduction.Row:
    (row,) = reproduction.check(made_up.PRESET)
    return row


def spread(method: str = "gated") -> float:
    """Standard deviation of the committed test accuracies over seeds."""
    values = [store.stored(key(method, seed)).test_accuracy for seed in SEEDS]
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def test_records_that_were_taken_from_the_store_are_not_fresh(runs) -> None:
    with pytest.raises(LayerpruneError, match="no fresh run of one that is committed"):
        reproduction.check(made_up.PRESET)


def test_a_run_of_another_day_and_machine_with_the_same_numbers_is_equal(runs) -> None:
    again(key(), wall_seconds=9e9, wall_seconds_own=1.0, provenance__cpu="another", provenance__commit="f" * 40)
    row = only()
    assert (row.run, row.verdict, row.cpu, row.accuracy_difference) == (str(key()), "equal", "another", 0)


@pytest.mark.parametrize("name", ["test_accuracy", "val_accuracy", "equivalence_gap"])
def test_one_last_bit_is_seen(runs, name: str) -> None:
    again(key(), **{name: math.nextafter(getattr(store.stored(key()), name), 1)})
    assert only().verdict == "within"


def test_other_weights_are_seen_where_both_records_name_them(runs) -> None:
    for change in ({"files__weights": "a" * 64}, {}):
        made_up.change(key(), **change)
        commit()
    again(key())
    assert only().verdict == "equal"
    again(key(), files__weights="b" * 64)
    assert only().verdict == "within"
    again(key(), files__weights=None)
    assert only().verdict == "equal"


@pytest.mark.parametrize(("share", "verdict"), [(0.99, "within"), (1.01, "off")])
def test_the_tolerance_is_three_standard_deviations_of_a_difference_between_seeds(
    runs, share: float, verdict: str
) -> None:
    allowed = 3 * math.sqrt(2) * spread()
    lowered = store.stored(key()).test_accuracy - share * allowed
    assert lowered > 0
    again(key(), test_accuracy=lowered)
    row = only()
    assert row.accuracy_tolerance == pytest.approx(allowed) and row.verdict == verdict
    assert ("test_accuracy" in row.why) == (verdict == "off")


def test_a_dense_network_of_another_size_is_off_however_near_its_accuracy(runs) -> None:
    again(key("dense"), macs=store.stored(key("dense")).macs - 1)
    assert (only().verdict, only().why) == ("off", "macs outside the tolerance")


def test_other_settings_are_off_whatever_the_numbers(runs) -> None:
    again(key(), provenance__config_digest="0" * 16)
    assert only().verdict == "off" and "other settings" in only().why


def test_a_run_that_failed_is_off_where_the_committed_one_did_not(runs) -> None:
    made_up.fail(key())
    assert (only().verdict, only().why) == ("off", "status diverged, committed ok")


def test_without_two_seeds_there_is_no_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    made_up.write_study(made_up.preset({"mlp-residual-10": {}}, ["dense"], (0,)))
    commit()
    again(key("dense"), test_accuracy=0.5)
    assert only().verdict == "undecided" and only().accuracy_tolerance is None


@pytest.mark.parametrize(("archs", "alike"), [(["lenet5", "mlp-residual-10"], "method"), (["lenet5"], "data set")])
def test_few_seeds_borrow_the_spread_of_what_is_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archs: list[str], alike: str
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    methods = ["dense", "gated", "sss"]
    keys = made_up.write_study(made_up.preset({arch: {} for arch in archs}, methods, (0, 1, 2)))
    spreads = reproduction.Spreads([store.find(each) for each in keys])
    allowed = {method: {spreads.tolerance("test_accuracy", arch, method) for arch in archs} for method in methods}
    assert all(len(each) == 1 for each in allowed.values())
    assert len(set.union(*allowed.values())) == (3 if alike == "method" else 1)


def test_the_pages_tables_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import page_tables
    import reproduce_tables

    new = page_tables.filled(reproduce_tables.PAGE, {"tables": reproduce_tables.tables()})
    assert reproduce_tables.PAGE.read_text(encoding="utf-8") == new, "run: python workflow/scripts/reproduce_tables.py"


def test_the_pages_filters_choose_the_runs_of_the_front_pages_table_and_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import reproduce_tables

    page = (REPOSITORY / "docs" / "reproduce.md").read_text(encoding="utf-8")
    filters = re.findall(r"plan --preset laptop \| grep -E '(.*?)'", page)
    planned = [str(key) for key in config.plan(config.load_preset("laptop"), "laptop")]
    chosen = [{run for run in planned if re.search(words, run)} for words in filters]
    assert chosen == [
        {str(key) for key in keys} for keys in (reproduce_tables.of_table(), reproduce_tables.of_figure())
    ]


# --- what is kept of it ---------------------------------------------------------------------------------------------


def test_rows_are_kept_of_each_machine_the_newest(runs) -> None:
    for cpu, accuracy in (("one", 0.9), ("two", 0.8), ("one", 0.7)):
        again(key(), provenance__cpu=cpu, test_accuracy=accuracy)
        reproduction.note(made_up.PRESET, reproduction.check(made_up.PRESET))
    kept = reproduction.noted(made_up.PRESET)
    assert dict(zip(kept["cpu"], kept["accuracy"], strict=True)) == {"one": 0.7, "two": 0.8}


def test_a_fresh_runs_memory_is_kept_and_older_rows_have_none(runs) -> None:
    again(key(), memory_bytes=10**9)
    reproduction.note(made_up.PRESET, reproduction.check(made_up.PRESET))
    assert reproduction.noted(made_up.PRESET)["memory"].tolist() == [10**9]
    path = paths.reproduced(made_up.PRESET)
    pd.read_csv(path).drop(columns="memory").to_csv(path, index=False)
    assert reproduction.noted(made_up.PRESET)["memory"].isna().all()


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n", "a\n1\n", "run,committed_record\n/etc,0\n", "run,committed_record\n,\n", '"'),
        "run,committed_record,accuracy\nresults/a/b/c/d/e/seed0,0,x\n",
        b"\xff\xfe".decode("latin-1"),
    ],
)
def test_what_is_no_table_of_fresh_runs_is_named(runs, content: str) -> None:
    path = paths.reproduced(made_up.PRESET)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LayerpruneError, match=r"^\S*reproduced\.csv: not a "):
        reproduction.noted(made_up.PRESET)


def test_rows_fall_away_with_the_record_that_they_were_compared_with(runs) -> None:
    again(key())
    reproduction.note(made_up.PRESET, reproduction.check(made_up.PRESET))
    assert len(reproduction.noted(made_up.PRESET)) == 1
    commit()
    nothing = reproduction.noted(made_up.PRESET)
    assert len(nothing) == len(reproduction.by_machine(nothing)) == 0


def test_machines_are_counted_apart(runs) -> None:
    again(key(seed=0), provenance__cpu="one")
    again(key(seed=1), provenance__cpu="two", test_accuracy=0.0)
    again(key(seed=2), provenance__cpu="one")
    found = reproduction.by_machine(reproduction.as_frame(reproduction.check(made_up.PRESET)))
    assert [(row["cpu"], row["runs"], row["equal"], row["off"]) for row in found.to_dict("records")] == [
        ("one", 2, 2, 0),
        ("two", 1, 0, 1),
    ]
    assert found["largest_accuracy"].tolist() == [0, store.stored(key(seed=1)).test_accuracy]


@pytest.fixture
def cli_at(tmp_path: Path) -> Callable[..., Outcome]:
    command = ["check-reproduction", "--preset", made_up.PRESET]
    return lambda *words: run_module("layerprune", *command, *words, cwd=tmp_path)


def test_the_command_says_each_verdict_and_fails_when_a_run_is_off(runs, cli_at) -> None:
    again(key(seed=0))
    assert "equal bit for bit" in (done := cli_at("--note")).stdout and done.code == 0
    assert paths.reproduced(made_up.PRESET).is_file()
    again(key(seed=1), test_accuracy=0.0)
    done = cli_at()
    assert done.code == 1 and "off, accuracy -" in done.stdout and "1 equal bit for bit, 1 off" in done.stdout
    assert (done := cli_at("--dataset", "nowhere")).code == 2 and len(done.stderr.splitlines()) == 1
