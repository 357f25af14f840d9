"""From records to statistics and tables: counted by hand, gaps shown, the same bytes on every rebuild."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import made_up_runs as made_up
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from scipy import stats

from layerprune import cli
from layerprune.analysis import build, compact, frames, headline, pages, statistics, tables
from layerprune.analysis.claims import ledger
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths
from layerprune.system.paths import RunKey


@pytest.fixture
def study_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def runs(study_root: Path) -> list[RunKey]:
    """dense, gated and magnitude on lenet5 with three seeds."""
    return made_up.write_study(made_up.preset(methods=["dense", "gated", "magnitude"]))


def key(method: str, seed: int = 0, variant: str = "default", arch: str = "lenet5") -> RunKey:
    return RunKey(made_up.PRESET, made_up.DATASET, arch, method, variant, seed)


def set_accuracies(method: str, values: list[float]) -> None:
    for seed, value in enumerate(values):
        made_up.change(key(method, seed), test_accuracy=value)


def read(partial: bool = False) -> frames.Study:
    return frames.read_study(made_up.PRESET, made_up.DATASET, partial)


def summary_of(method: str, partial: bool = False) -> dict:
    summary = statistics.summarise(read(partial).runs)
    return summary[(summary["method"] == method) & (summary["variant"] == "default")].iloc[0].to_dict()


def cells(partial: bool = False) -> pd.DataFrame:
    return tables.comparison(statistics.summarise(read(partial).runs))


def cells_of(method: str, partial: bool = False) -> dict:
    found = cells(partial)
    return found[found["method"] == method].iloc[0].to_dict()


# --- frames -------------------------------------------------------------------------------------------------


def test_every_planned_run_is_one_row_in_the_order_of_tables(runs):
    found = read().runs
    assert len(found) == len(runs) == 9
    assert list(dict.fromkeys(found["method"])) == ["dense", "gated", "magnitude"]
    assert found["keep"].iloc[0] == [1, 1, 1]


def test_variants_stand_in_natural_order(study_root):
    raw = made_up.preset({"mlp-residual-20": {}}, ["dense", "gated", "magnitude"], (0,), sweep=True)
    made_up.write_study(raw)
    found = read().runs
    variants = list(dict.fromkeys(found[found["method"] == "magnitude"]["variant"]))
    assert variants == ["default", "keep-2", "keep-5", "keep-10"]
    swept = found[(found["method"] == "gated") & (found["variant"] != "default")]
    assert list(swept["nu"]) == list(made_up.NU)


def test_a_missing_run_is_refused_by_name_unless_gaps_are_allowed(runs):
    shutil.rmtree(paths.run_folder(key("gated", 1)))
    with pytest.raises(LayerpruneError, match=r"1 of 9 runs are missing: .*lenet5/gated/default/seed1"):
        read()
    gap = read(partial=True).runs.query("method == 'gated' and seed == 1").iloc[0]
    assert gap["status"] == "missing" and gap["nu"] == 0.002


def test_a_malformed_record_is_a_row_that_says_why_when_gaps_are_allowed(runs):
    paths.record(key("dense", 2)).write_text('{"preset": 1}')
    with pytest.raises(LayerpruneError, match=r"record\.json"):
        read()
    row = read(partial=True).runs.query("method == 'dense' and seed == 2").iloc[0]
    assert row["status"] == "unreadable" and "record.json" in row["reason"]


def test_curves_name_their_run_and_a_broken_file_is_named(runs):
    curves = frames.read_curves(read().runs.query("method == 'gated'"))
    assert set(curves["seed"]) == {0, 1, 2} and len(curves) == 3 * (made_up.EPOCHS + 1)
    paths.curves(key("gated")).write_text("lr\n0.1\n")
    with pytest.raises(LayerpruneError, match=r"curves\.csv: no column 'epoch'"):
        frames.read_curve(key("gated"))


# --- statistics ---------------------------------------------------------------------------------------------


def test_mean_and_sd_are_those_of_the_seeds(runs):
    set_accuracies("dense", [0.90, 0.92, 0.97])
    row = summary_of("dense")
    assert row["n"] == 3
    assert row["test_accuracy_mean"] == pytest.approx(0.93)
    assert row["test_accuracy_sd"] == pytest.approx(math.sqrt(0.0013))  # (9 + 1 + 16) / 2 squared points


def test_the_difference_to_dense_is_paired_by_seed(runs):
    set_accuracies("dense", [0.90, 0.92, 0.97])
    set_accuracies("gated", [0.89, 0.91, 0.96])
    row = summary_of("gated")
    assert row["difference_mean"] == pytest.approx(-0.01)
    assert row["difference_sd"] == pytest.approx(0)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((-0.01, -0.01))


def test_only_seeds_that_both_have_are_compared(runs):
    set_accuracies("dense", [0.90, 0.92, 0.97])
    set_accuracies("gated", [0.89, 0.93, 0.90])
    made_up.fail(key("dense", 2))
    row = summary_of("gated")
    assert (row["n"], row["difference_n"]) == (3, 2)
    assert row["difference_mean"] == pytest.approx(0.0)


def test_accuracy_is_not_compared_with_a_dense_network_that_trained_for_less(study_root):
    raw = made_up.preset(methods=["dense", "gated"])
    longer = {"training": {"duration": "99ep"}}
    raw["datasets"][made_up.DATASET]["methods"]["gated"]["variants"] = {"longer": longer, "other": {}}
    made_up.write_study(raw)
    found = statistics.summarise(read().runs).set_index("label")
    assert found["difference_n"].to_dict() == {"dense": 3, "gated": 3, "gated longer": 0, "gated other": 3}
    assert (found["train_macs_ratio_mean"] > 0).all()  # what it cost is told in multiples of dense's all the same
    assert cells().set_index("variant").loc["longer", "difference (points)"] == "–"


def test_training_cost_is_relative_to_dense_of_the_same_seed(runs):
    for seed, (whole, part) in enumerate([(100, 50), (200, 50), (400, 300)]):
        made_up.change(key("dense", seed), train_macs=whole, train_macs_own=whole)
        made_up.change(key("gated", seed), train_macs=part, train_macs_own=part)
    assert summary_of("gated")["train_macs_ratio_mean"] == pytest.approx(0.5)  # of 0.5, 0.25, 0.75


OTHER = [{"device": "cuda"}, {"provenance__cpu": "another"}, {"provenance__threads": 7}]


@pytest.mark.parametrize("machine", OTHER, ids=str)
def test_wall_time_is_not_compared_between_machines(runs, machine):
    assert summary_of("gated")["wall_ratio_mean"] > 0
    for seed in range(3):
        made_up.change(key("gated", seed), **machine)
    assert math.isnan(summary_of("gated")["wall_ratio_mean"])


@pytest.mark.parametrize(("dense", "is_one"), [("H200", True), ("H100", False)])
def test_on_gpus_wall_time_is_that_of_the_model_of_gpu_beside_whatever_cpu(runs, dense, is_one):
    for seed in range(3):
        made_up.change(key("gated", seed), device="cuda", provenance__gpu="H200", provenance__cpu="another")
        made_up.change(key("dense", seed), device="cuda", provenance__gpu=dense)
    assert (summary_of("gated")["wall_ratio_mean"] > 0) is is_one


def test_time_beside_others_is_left_out_of_what_starts_there_too(runs):
    for seed in range(3):
        made_up.change(key("dense", seed), provenance__lanes=8)
    found = read().runs.set_index("method")
    assert found.loc[["dense", "magnitude"], "wall_seconds"].isna().all()
    assert found.loc["gated", "wall_seconds"].notna().all()
    assert found.loc["magnitude", "wall_seconds_own"].notna().all()


def test_failed_and_missing_runs_are_counted_and_enter_no_mean(runs):
    set_accuracies("gated", [0.90, 0.92, 0.5])
    made_up.change(key("gated", 2), status="diverged")
    shutil.rmtree(paths.run_folder(key("gated", 1)))
    row = summary_of("gated", partial=True)
    assert (row["n"], row["n_failed"], row["n_missing"]) == (1, 1, 1)
    assert row["test_accuracy_mean"] == pytest.approx(0.90)
    assert math.isnan(row["test_accuracy_sd"])


def interval(*values: float) -> tuple[float, float]:
    return statistics.intervals([np.array(values)])[0]


def test_the_interval_of_a_constant_is_that_constant():
    assert interval(*[0.98] * 5) == (0.98, 0.98)


def test_one_value_has_no_interval():
    assert all(math.isnan(end) for end in interval(0.98))


def test_the_interval_lies_within_the_values_holds_the_mean_and_is_the_same_each_time():
    values = 0.97, 0.98, 0.99, 0.985
    low, high = interval(*values)
    assert 0.97 <= low < np.mean(values) < high <= 0.99
    assert interval(*values) == (low, high)


def test_the_interval_of_two_values_spans_them():
    # A resample of two has the mean of a single one of them with probability 1/4 each: beyond 2.5 %.
    assert interval(1.0, 2.0) == (1.0, 2.0)


def test_large_samples_are_worked_out_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    shapes = []
    monkeypatch.setattr(
        statistics, "_bootstrap", lambda part: (shapes.append(part.shape), part.min(1), part.max(1))[1:]
    )
    samples = [*np.random.default_rng(1).random((3, 400)), *np.random.default_rng(2).random((60, 5))]
    assert statistics.intervals(samples) == [(each.min(), each.max()) for each in samples]
    assert shapes == [(50, 5), (10, 5), (2, 400), (1, 400)]


def test_many_samples_have_the_intervals_that_each_has_alone():
    source = np.random.default_rng(1)
    samples = [source.random(size) for size in [3, 1, 5, 0, *[3] * statistics._AT_A_TIME, 10, 9]] + [np.ones(3)]
    together = statistics.intervals(samples)
    for sample, (low, high) in zip(samples, together, strict=True):
        if len(sample) > 1 and np.ptp(sample):
            alone = stats.bootstrap(
                (sample,), np.mean, n_resamples=statistics.RESAMPLES, method="percentile", rng=np.random.default_rng(0)
            ).confidence_interval
            assert (low, high) == (alone.low, alone.high)
        else:
            assert np.array_equal([low, high], [1.0, 1.0] if len(sample) > 1 else [math.nan] * 2, equal_nan=True)


# --- tables -------------------------------------------------------------------------------------------------


def test_a_cell_shows_mean_spread_and_n_in_per_cent(runs):
    set_accuracies("dense", [0.90, 0.92, 0.97])
    set_accuracies("gated", [0.89, 0.91, 0.96])
    assert cells_of("dense")["accuracy (%)"] == "93.00 ± 3.61 (3)"
    assert cells_of("dense")["difference (points)"] == "–"
    assert cells_of("gated")["difference (points)"] == "-1.00 [-1.00, -1.00]"


def test_a_failed_run_is_shown_and_the_table_still_builds(runs):
    made_up.change(key("gated", 0), status="collapsed")
    made_up.fail(key("gated", 1))
    build.build_tables(made_up.PRESET, made_up.DATASET)
    text = paths.table(made_up.PRESET, made_up.DATASET, "md").read_text()
    assert "(2), 1 failed, 1 collapsed" in text
    csv = pd.read_csv(paths.runs_table(made_up.PRESET, made_up.DATASET))
    assert list(csv.query("method == 'gated'")["status"]) == ["collapsed", "diverged", "ok"]


def test_top5_accuracy_is_shown_where_a_data_set_has_it(runs):
    assert tables.TOP5 not in cells()
    for seed, value in enumerate((0.82, 0.84)):
        made_up.change(key("gated", seed), test_top5_accuracy=value)
    assert cells_of("gated")[tables.TOP5] == "83.00 ± 1.41"
    assert cells_of("dense")[tables.TOP5] == "–"


def test_what_was_not_run_says_so(runs):
    for seed in range(3):
        shutil.rmtree(paths.run_folder(key("magnitude", seed)))
    with pytest.raises(LayerpruneError, match="3 of 9 runs are missing"):
        build.build_tables(made_up.PRESET, made_up.DATASET)
    build.build_tables(made_up.PRESET, made_up.DATASET, partial=True)
    for suffix in ("csv", "md"):
        assert "not run" in paths.table(made_up.PRESET, made_up.DATASET, suffix).read_text()


def test_a_study_without_any_record_still_gives_tables(runs):
    shutil.rmtree(paths.results(made_up.PRESET))
    build.build_tables(made_up.PRESET, made_up.DATASET, partial=True)
    assert cells_of("dense", partial=True)["accuracy (%)"] == "not run"


NOTHING_PLANNED = {
    "no network": {"archs": {}, "methods": {"dense": {}}},
    "no method": {"archs": {"lenet5": {}}, "methods": {}},
    "neither": {},
}


@pytest.mark.parametrize("block", NOTHING_PLANNED.values(), ids=NOTHING_PLANNED)
def test_where_nothing_is_planned_every_command_says_so_or_writes_empty_tables(study_root, capsys, block):
    files.write_text(paths.preset_file("none"), json.dumps({"datasets": {"digits": block}}))
    shutil.copytree(REPOSITORY / "config" / "claims", study_root / "config" / "claims")
    says = f"{paths.preset_file('none')}: datasets.digits: no run is planned: name networks (archs) and methods"
    for made in (build.build_tables, build.build_figures):
        for partial in (False, True):
            with pytest.raises(LayerpruneError) as caught:
                made("none", "digits", partial=partial)
            assert str(caught.value) == says
    for command in (cli.tables, cli.figures):
        with pytest.raises(LayerpruneError, match="no run is planned"):
            command("none")
    assert frames.read_study("none", "digits").runs.empty
    cli.claims("none")
    assert all(path.is_file() for path in (paths.claims("none", "csv"), paths.headline("none")))
    capsys.readouterr()
    cli.verify("none")
    told = capsys.readouterr().out
    assert "none/digits: no run is planned" in told and "every planned run" not in told


def test_a_data_set_without_runs_hinders_no_other(runs, capsys):
    path = paths.preset_file(made_up.PRESET)
    preset = json.loads(path.read_text())
    preset["datasets"] = {"cifar10": NOTHING_PLANNED["neither"]} | preset["datasets"]
    files.write_text(path, json.dumps(preset))
    cli.tables(made_up.PRESET)
    told = capsys.readouterr().out
    assert str(paths.runs_table(made_up.PRESET, made_up.DATASET)) in told and "cifar10" not in told


def test_a_study_of_experiments_alone_has_no_tables(study_root):
    block = {"archs": {"mlp-residual-5": {}}, "methods": {"estimator-error": {}}}
    files.write_text(paths.preset_file("none"), json.dumps({"datasets": {"digits": block}}))
    with pytest.raises(LayerpruneError, match=r"digits: experiments alone are planned"):
        build.build_tables("none", "digits", partial=True)


def test_tables_have_the_same_bytes_on_a_rebuild(runs):
    before = [path.read_bytes() for path in build.build_tables(made_up.PRESET, made_up.DATASET)]
    assert [path.read_bytes() for path in build.build_tables(made_up.PRESET, made_up.DATASET)] == before


def test_csv_and_markdown_show_the_same_rows(runs):
    build.build_tables(made_up.PRESET, made_up.DATASET)
    csv = pd.read_csv(paths.table(made_up.PRESET, made_up.DATASET, "csv"))
    markdown = paths.table(made_up.PRESET, made_up.DATASET, "md").read_text()
    assert len(csv) and all(accuracy in markdown for accuracy in csv["accuracy (%)"])


RESNETS = {
    "resnet-20": {"model": {"removable": "shape-preserving", "shortcut": "b"}},
    "resnet-32": {"model": {"width": 8}},
    "lenet5": {},
}


@pytest.fixture
def resnets(study_root: Path) -> list[RunKey]:
    """dense, gated and magnitude with one seed on networks that are asked for different things."""
    return made_up.write_study(made_up.preset(RESNETS, ["dense", "gated", "magnitude"], (0,)))


def test_the_accuracy_before_fine_tuning_is_that_of_validation_and_blank_where_nothing_is_fine_tuned(runs):
    for seed, value in enumerate([0.50, 0.60, 0.70]):
        made_up.change(key("magnitude", seed), val_accuracy_before_finetune=value, test_accuracy_before_finetune=None)
    column = "validation accuracy before fine-tuning (%)"
    assert cells_of("magnitude")[column] == "60.00 ± 10.00"
    assert cells_of("dense")[column] == cells_of("gated")[column] == "–"
    made_up.change(key("magnitude", 2), val_accuracy_before_finetune=None)
    assert cells_of("magnitude")[column] == "55.00 ± 7.07 (2)"


def test_every_table_says_what_the_network_was_asked_for(resnets):
    build.build_tables(made_up.PRESET, made_up.DATASET)
    page = paths.table(made_up.PRESET, made_up.DATASET, "md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("**")]
    assert headings == [
        "**resnet-20** (removable: shape-preserving, shortcut b)",
        "**resnet-32** (removable: all, shortcut a, width 8)",
        "**lenet5** (removable: all)",
    ]
    csv = pd.read_csv(paths.table(made_up.PRESET, made_up.DATASET, "csv")).drop_duplicates("architecture")
    assert csv[["removable", "shortcut", "width"]].to_numpy().tolist() == [
        ["shape-preserving", "b", "–"],
        ["all", "a", "8"],
        ["all", "–", "–"],
    ]


def test_a_run_that_is_missing_has_the_planned_settings_of_its_network(resnets):
    shutil.rmtree(paths.results(made_up.PRESET))
    found = read(partial=True).runs.drop_duplicates("arch").set_index("arch")
    assert found.loc["resnet-20", "removable"] == "shape-preserving" and found.loc["resnet-20", "shortcut"] == "b"
    assert found.loc["resnet-32", "width"] == 8 and math.isnan(found.loc["lenet5", "width"])


def test_a_record_from_before_there_were_settings_of_a_network_means_the_defaults(runs):
    made = read().runs
    config = files.read_json(paths.record(key("dense")))["provenance"]["config"]
    made_up.change(key("dense"), provenance__config={name: config[name] for name in config if name != "model"})
    old = read().runs
    columns = ["removable", "shortcut", "width"]
    assert old[columns].equals(made[columns]) and list(old[columns].iloc[0])[:2] == ["all", "a"]


def test_an_outdated_record_of_another_network_shows_in_the_heading(resnets):
    config = files.read_json(paths.record(key("dense")))["provenance"]["config"]
    model = config["model"] | {"removable": "shape-preserving"}
    made_up.change(key("dense"), provenance__config=config | {"model": model})
    headings = [line for line in tables.markdown_page(read(), cells()).splitlines() if line.startswith("**lenet5")]
    assert headings == ["**lenet5** (removable: shape-preserving)", "**lenet5** (removable: all)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.6, "1.00 k"), (26_611, "26.6 k"), (999_999, "1.00 M"), (1.5e13, "15.0 T")],
)
def test_large_numbers_have_three_digits_and_a_prefix(value, text):
    assert tables._scaled(value) == text


def test_summary_csv_keeps_fractions(runs):
    set_accuracies("dense", [0.90, 0.92, 0.97])
    build.build_tables(made_up.PRESET, made_up.DATASET)
    summary = pd.read_csv(paths.summary_table(made_up.PRESET, made_up.DATASET))
    assert summary.query("method == 'dense'")["test_accuracy_mean"].iloc[0] == pytest.approx(0.93)


# --- compact tables and the headline ----------------------------------------------------------------------


def compact_of(arch: str = "lenet5") -> pd.DataFrame:
    return compact.compact(read(), arch).set_index("method")


def test_a_compact_row_counts_what_is_removed_and_paid(runs):
    for seed in range(3):
        whole = {"depth_dense": 4, "macs_dense": 200, "params_dense": 50}
        made_up.change(key("dense", seed), depth=4, macs=200, params=50, train_macs=1000, **whole)
        made_up.change(key("gated", seed), depth=3, macs=50, params=10, train_macs=600, **whole)
    row = compact_of().loc["gated"]
    assert row[[*compact.REMOVED, "train_cost"]].tolist() == pytest.approx([0.25, 0.75, 0.8, 0.6])


def test_compact_rows_stand_in_groups_and_only_what_competes_is_bold(study_root):
    made_up.write_study(made_up.preset())
    rows = compact.compact(read(), "lenet5")
    assert list(dict.fromkeys(rows["group"])) == list(compact.GROUPS)
    assert [compact.group_of(name) for name in ("sss", "cka", "scratch-e")] == ["trained", "scores", "controls"]
    rows = rows.assign(accuracy_mean=0.5, layers_removed=0.5, train_cost=1.0)
    rows.loc[rows["method"].isin(["dense", "scratch-b"]), "accuracy_mean"] = 0.9
    rows.loc[rows["method"] == "taylor", "accuracy_mean"] = 0.7
    rows.loc[rows["method"] == "magnitude", ["accuracy_mean", "layers_removed"]] = 0.8, 0.0
    best = compact._best(rows)
    assert rows["method"][best["accuracy"]].tolist() == ["taylor"]


def test_compact_csv_markdown_and_latex_have_the_same_rows(runs):
    rows = compact_of().reset_index()
    markdown, latex = compact.markdown(rows), compact.latex(rows, "A & B", "tab:x")
    for row in rows.to_dict("records"):
        accuracy = f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_sd']:.2f} (3)"
        assert accuracy in markdown and accuracy.replace("±", r"$\pm$") in latex
    bodies = [line for line in latex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count("&") for line in bodies} == {7} and len(bodies) == len(rows) + 1
    assert latex.count("{") == latex.count("}") and r"\caption{A \& B}\label{tab:x}" in latex
    assert {line.count("|") for line in markdown.splitlines()} == {10}


@pytest.mark.latex
def test_every_latex_table_compiles_and_fits_one_column_of_two(tmp_path):
    tables = sorted(REPOSITORY.glob("results/*/tables/*/*.tex"))
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in tables)
    packages = r"\usepackage{booktabs,graphicx}"
    text = rf"\documentclass[twocolumn]{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "tables.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert len(tables) > 10 and done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and f"({len(tables)} pages" in done.stdout


def test_the_headline_compares_the_seeds_that_both_have(study_root):
    made_up.write_study(made_up.preset({"lenet5": {}, "mlp-residual-20": {}}, ["dense", "gated"]))
    shutil.rmtree(paths.run_folder(key("dense", 2)))
    for seed, (whole, pruned) in enumerate([(0.9, 0.8), (0.8, 0.8), (0.1, 0.1)]):
        if seed < 2:
            made_up.change(key("dense", seed), test_accuracy=whole)
        made_up.change(key("gated", seed), test_accuracy=pruned)
    table = headline.rows([read(partial=True)]).set_index("arch")
    assert table["n"].to_dict() == {"lenet5": 2, "mlp-residual-20": 3}
    assert table.loc["lenet5", ["dense", "accuracy_mean"]].tolist() == pytest.approx([0.85, 0.8])
    for seed in (0, 1):
        shutil.rmtree(paths.run_folder(key("dense", seed)))
    assert headline.rows([read(partial=True)])["arch"].tolist() == ["mlp-residual-20"]


def test_the_headline_has_the_networks_with_most_seeds_then_the_deepest(runs, monkeypatch):
    made_up.write_study(made_up.preset({f"mlp-residual-{n}": {} for n in (5, 20, 10)}, ["dense", "gated"]))
    shutil.rmtree(paths.run_folder(key("dense", 2, arch="mlp-residual-20")))
    monkeypatch.setattr(headline, "LARGEST", 2)
    assert headline.rows([read(partial=True)])["arch"].tolist() == ["mlp-residual-5", "mlp-residual-10"]
    monkeypatch.setattr(headline, "LARGEST", 1)
    assert headline.rows([read(partial=True)])["arch"].tolist() == ["mlp-residual-10"]


def test_every_family_of_networks_has_a_row_of_the_headline_before_any_has_two(runs, monkeypatch):
    archs = ["lenet5", *(f"mlp-residual-{n}" for n in (5, 20, 10, 40))]
    made_up.write_study(made_up.preset({arch: {} for arch in archs}, ["dense", "gated"]))
    shutil.rmtree(paths.run_folder(key("dense", 2, arch="lenet5")))
    for wanted in (["lenet5", "mlp-residual-40"], ["lenet5", "mlp-residual-20", "mlp-residual-40"]):
        monkeypatch.setattr(headline, "LARGEST", len(wanted))
        assert headline.rows([read(partial=True)])["arch"].tolist() == wanted


def test_the_headline_tells_widths_that_are_not_the_published_ones(runs):
    table = pd.concat([headline.rows([read()])] * 2, ignore_index=True).assign(width=[float("nan"), 8.0])
    assert headline.cells(table)["network"].tolist() == ["lenet5, made-up", "lenet5 (8 channels), made-up"]


def test_the_headline_tells_one_length_of_a_network_s_training_from_another(runs):
    table = pd.concat([headline.rows([read()])] * 3, ignore_index=True)
    table = table.assign(width=[8.0, float("nan"), float("nan")], duration=["8ep", "24ep", "600it"])
    assert headline.cells(table)["network"].tolist() == [
        "lenet5 (8 channels), made-up",
        "lenet5 (24 epochs), made-up",
        "lenet5 (600 steps), made-up",
    ]


# --- pages --------------------------------------------------------------------------------------------------


def block(name: str, content: str = "outdated") -> str:
    return f"<!-- generated:{name} -->\n{content}\n<!-- /generated:{name} -->"


def test_generated_blocks_are_replaced_and_the_rest_stays(runs, study_root):
    page = study_root / "README.md"
    page.write_text(f"before\n{block('networks:made-up:mnist')}\nafter\n{block('headline:made-up')}")
    assert not pages.is_current(page)
    assert pages.update(page)
    text = page.read_text()
    assert text.startswith("before\n") and "\nafter\n" in text
    assert "| gated |" in text and "| lenet5, made-up |" in text and "outdated" not in text
    assert "[CSV](results/made-up/tables/mnist/lenet5.csv)" in text
    assert pages.is_current(page) and not pages.update(page)


def test_a_page_names_methods_that_have_not_run_and_shows_those_that_failed(study_root):
    made_up.write_study(made_up.preset({"lenet5": {}, "mlp-residual-5": {}}, ["dense", "gated", "sss", "random"]))
    for seed in range(3):
        shutil.rmtree(paths.run_folder(key("sss", seed)))
        made_up.change(key("random", seed), status="failed", test_accuracy=None)
        for method in ("dense", "gated", "sss", "random"):
            shutil.rmtree(paths.run_folder(key(method, seed, arch="mlp-residual-5")))
    page = study_root / "README.md"
    page.write_text(block("networks:made-up:mnist"))
    pages.update(page)
    text = page.read_text()
    assert "Not run yet: sss." in text and "| sss |" not in text
    assert "| random | 3 failed |" in text and "### lenet5" in text and "mlp-residual-5" not in text


def test_blocks_of_another_preset_stay_untouched(runs, study_root):
    page = study_root / "README.md"
    page.write_text(block("networks:paper:mnist"))
    assert pages.is_current(page, preset=made_up.PRESET)


@pytest.mark.parametrize("preset", [None, made_up.PRESET])
def test_a_headline_of_several_presets_has_the_networks_of_each(runs, study_root, preset):
    files.write_text(paths.preset_file("other"), paths.preset_file(made_up.PRESET).read_text())
    page = study_root / "README.md"
    page.write_text(block(f"headline:other+{made_up.PRESET}") + block("headline:other"))
    pages.update(page, preset)
    assert page.read_text().count("| lenet5, made-up |") == 1
    assert page.read_text().count("outdated") == (preset is not None)


def test_verdicts_lead_to_their_sections_of_the_ledger(runs, study_root):
    shutil.copytree(REPOSITORY / "config" / "claims", study_root / "config" / "claims")
    page = study_root / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text(block("verdicts:made-up"))
    pages.update(page)
    ledger_page = ledger.as_page(made_up.PRESET, ledger.entries(made_up.PRESET))
    links = re.findall(r"\]\(\.\./results/made-up/claims\.md#(\S+)\), \*\*", page.read_text())
    headings = re.findall(r"^## (.*)$", ledger_page, flags=re.MULTILINE)
    assert links == [heading.lower().replace(":", "").replace(" ", "-") for heading in headings] != []


def test_a_figure_is_a_relative_link_with_its_caption(runs, study_root):
    page = study_root / "docs" / "results" / "mnist.md"
    page.parent.mkdir(parents=True)
    page.write_text(block("figure:made-up:mnist:survivors"))
    with pytest.raises(LayerpruneError, match=r"survivors\.svg does not exist"):
        pages.update(page)
    picture = paths.figure(made_up.PRESET, made_up.DATASET, "survivors", "svg")
    picture.parent.mkdir(parents=True)
    picture.touch()
    pages.update(page)
    assert "](../../figures/made-up/mnist/survivors.svg)" in page.read_text()


@pytest.mark.parametrize(
    "name", ["picture:made-up:mnist", "networks:made-up", "figure:made-up:mnist:nothing", "methods:x"]
)
def test_an_unknown_marker_is_named(runs, study_root, name):
    page = study_root / "README.md"
    page.write_text(block(name))
    with pytest.raises(LayerpruneError, match=r"README\.md: generated:.*unknown"):
        pages.update(page)


def test_an_open_marker_is_named(runs, study_root):
    page = study_root / "README.md"
    page.write_text("<!-- generated:networks:made-up:mnist -->\n")
    with pytest.raises(LayerpruneError, match="no closing"):
        pages.update(page)


# --- directions ---------------------------------------------------------------------------------------------


def test_analysis_imports_neither_torch_nor_a_method():
    program = (
        "import sys, layerprune.analysis.build, layerprune.analysis.verify, layerprune.analysis.pages\n"
        "assert 'torch' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('layerprune.core.methods.')]"
    )
    source = str(Path(frames.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
