"""Verification finds each kind of damage, and nothing where there is none."""

import json
import shutil
from pathlib import Path

import made_up_runs as made_up
import pandas as pd
import pytest
from conftest import Say

from layerprune.analysis import verify
from layerprune.core import version
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths
from layerprune.system.paths import RunKey


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunKey]:
    """dense, gated and magnitude on mlp-residual-10 with one seed: nothing collapses there."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    raw = made_up.preset({"mlp-residual-10": {}}, ["dense", "gated", "magnitude"], (0,))
    return made_up.write_study(raw)


def key(method: str) -> RunKey:
    return RunKey(made_up.PRESET, made_up.DATASET, "mlp-residual-10", method, "default", 0)


def findings(kind: str | None = None) -> list[verify.Finding]:
    found = verify.verify(made_up.PRESET)
    return [finding for finding in found if kind in (None, finding.kind)]


def only(kind: str) -> verify.Finding:
    found = findings()
    assert [finding.kind for finding in found] == [kind], verify.report(found)
    return found[0]


def test_an_untouched_study_has_no_findings(runs):
    assert findings() == []
    assert not verify.has_errors([])
    assert verify.report([]) == "every planned run exists and is up to date"


def test_a_missing_record_is_found(runs):
    shutil.rmtree(paths.run_folder(key("magnitude")))
    assert only("missing").where == str(key("magnitude"))


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_an_unreadable_record_is_found(runs, text):
    paths.record(key("magnitude")).write_text(text)
    assert "record.json" in only("unreadable").message


def test_a_change_of_code_is_found(runs, monkeypatch):
    monkeypatch.setattr(version, "RESULTS_VERSION", version.RESULTS_VERSION + 1)
    assert {finding.where for finding in findings("stale-code")} == {str(each) for each in runs}


def test_a_change_of_settings_is_found_and_named(runs):
    path = paths.preset_file(made_up.PRESET)
    path.write_text(path.read_text().replace('"nu": 0.002', '"nu": 0.003'))
    finding = only("stale-config")
    assert finding.where == str(key("gated")) and "settings.nu (0.002 -> 0.003)" in finding.message


def test_a_changed_parent_is_found(runs):
    made_up.change(key("dense"), test_accuracy=0.5)
    assert str(key("dense")) in only("stale-parent").message


def test_a_parent_that_is_gone_is_found(runs):
    shutil.rmtree(paths.run_folder(key("dense")))
    assert {finding.kind for finding in findings()} == {"missing", "stale-parent"}


def test_a_parent_that_the_record_does_not_name_is_found(runs):
    made_up.change(key("magnitude"), provenance__parents={})
    assert {finding.kind for finding in findings()} == {"stale-parent"}
    assert len(findings()) == 2  # dense and gated


def test_other_data_than_those_staged_are_found(runs):
    manifest = paths.data_manifest(made_up.PRESET, made_up.DATASET)
    files.write_json(manifest, {"checksums": made_up.CHECKSUMS})
    assert findings() == []
    files.write_json(manifest, {"checksums": made_up.CHECKSUMS | {"train-labels": "c" * 64}})
    assert {finding.kind for finding in findings()} == {"stale-data"}


def test_a_failed_run_is_found_with_its_reason(runs):
    made_up.fail(key("magnitude"))
    assert only("failed").message == "diverged: loss is not finite at step 17"


@pytest.mark.parametrize(("status", "kind"), [("diverged", "note"), ("failed", "failed")])
def test_a_variant_may_diverge_but_not_fail(tmp_path, monkeypatch, status, kind):
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    made_up.write_study(made_up.preset({"mlp-residual-20": {}}, ["dense", "gated"], (0,), sweep=True))
    assert {finding.kind for finding in findings()} <= {"note"}
    variant = RunKey(made_up.PRESET, made_up.DATASET, "mlp-residual-20", "gated", f"nu-{made_up.NU[0]}", 0)
    made_up.fail(variant, status)
    found = [finding for finding in findings() if finding.where == str(variant)]
    assert [(finding.kind, finding.message) for finding in found] == [
        (kind, f"{status}: loss is not finite at step 17")
    ]


@pytest.mark.parametrize("status", ["collapsed", "unpruned"])
def test_collapsed_and_unpruned_are_notes(runs, status):
    left = 0 if status == "collapsed" else 1
    changes = {"keep": [left] * 10, "removed_step": [None if left else 0] * 10}
    size = made_up._macs(10 * left)
    made_up.change(key("magnitude"), status=status, macs=size, **changes)
    curves = paths.curves(key("magnitude"))
    text = curves.read_text().splitlines()
    cells = dict(zip(text[0].split(","), text[-1].split(","), strict=True))
    cells |= {"sections_alive": str(10 * left), "macs": str(size)}
    curves.write_text("\n".join([*text[:-1], ",".join(cells.values())]) + "\n")
    assert not only("note").is_error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs": 10**9}, "exceed macs_dense"),
        ({"depth": 99}, "exceeds depth_dense"),
        ({"equivalence_gap": 1e-3}, "equivalence_gap 0.001 exceeds 0.0001"),
        ({"status": "collapsed"}, "status collapsed with"),
        ({"test_accuracy": None}, "no test accuracy"),
        ({"train_macs": 0, "train_macs_own": 0}, "no training MACs"),
        ({"train_macs_own": 10**15}, "train_macs without the parents"),
        ({"wall_seconds_own": 1e9}, "wall_seconds without the parents"),
        ({"removed_step": [10**6] * 10}, "removed_step"),
        ({"seed": 7}, "in the folder of"),
        ({"steps_total": 801}, "curves.csv ends with step 800"),
        ({"epochs": 9}, "curves.csv ends with epoch 8"),
    ],
)
def test_what_contradicts_itself_or_its_curves_is_found(runs, changes, message):
    made_up.change(key("magnitude"), **changes)
    assert any(message in finding.message for finding in findings("out-of-range")), verify.report(findings())


def shorten(of: RunKey, steps: int) -> None:
    """End a run after so many steps, as the training loop does: its last row is that of the epoch it ends in."""
    per, made = made_up.STEPS_PER_EPOCH, files.read_json(paths.record(of))
    curves = pd.read_csv(paths.curves(of))
    whole = curves[curves["step"] < steps]
    within = whole.tail(1).assign(epoch=(steps - 1) / per, step=steps - 1)  # a row at a check
    last = curves.tail(1).assign(epoch=-(-steps // per), step=steps)
    pd.concat([whole, *([within] if steps % per > 1 else []), last]).to_csv(paths.curves(of), index=False)
    removed = [None if step is None else min(step, steps) for step in made["removed_step"]]
    made_up.change(of, steps_total=steps, epochs=steps / per, removed_step=removed)


@pytest.mark.parametrize("steps", [1, 30, 99, 100, 101, 130, 750, 799, 800])
def test_a_training_may_end_within_an_epoch(runs, steps):
    shorten(key("magnitude"), steps)
    assert findings() == []


@pytest.mark.parametrize("steps", [0, 30, 130, 750, 800])
@pytest.mark.parametrize("change", [-1.0, -0.25, 0.01, 0.2, 1.0])
def test_epochs_that_the_steps_do_not_make_are_found(runs, steps, change):
    shorten(key("magnitude"), steps)
    made_up.change(key("magnitude"), epochs=max(0.0, steps / made_up.STEPS_PER_EPOCH + change) or 0.03)
    assert "curves.csv ends with epoch" in only("out-of-range").message


@pytest.mark.parametrize("epoch", [0, 7, 7.5, 9, None])
def test_a_last_row_of_another_epoch_than_it_ends_in_is_found(runs, epoch):
    shorten(key("magnitude"), 750)
    curves = pd.read_csv(paths.curves(key("magnitude"))).astype({"epoch": float})
    curves.loc[curves.index[-1], "epoch"] = epoch
    curves.to_csv(paths.curves(key("magnitude")), index=False)
    assert "curves.csv ends with epoch" in only("out-of-range").message


def test_missing_and_broken_curves_are_found(runs):
    paths.curves(key("magnitude")).write_text("")
    assert only("unreadable").where == str(key("magnitude"))
    paths.curves(key("magnitude")).unlink()
    assert only("out-of-range").message == "no curves.csv"


def test_a_run_outside_the_plan_is_a_note(runs):
    other = paths.run_folder(key("magnitude")).with_name("seed7")
    shutil.copytree(paths.run_folder(key("magnitude")), other)
    finding = only("unplanned")
    assert finding.where.endswith("magnitude/default/seed7") and not finding.is_error


def test_the_report_groups_findings_and_counts_errors(runs):
    made_up.fail(key("magnitude"))
    shutil.rmtree(paths.run_folder(key("gated")))
    found = findings()
    lines = verify.report(found).splitlines()
    assert lines[0] == "missing (1): planned, not run"
    assert verify.has_errors(found) and lines[-1].endswith("errors, 0 notes")


def test_a_long_report_is_cut_short(runs):
    found = [verify.Finding(str(place), "missing", "no record.json") for place in range(30)]
    lines = verify.report(found, limit=5).splitlines()
    assert len(lines) == 8 and lines[6] == "  ... and 25 more" and lines[7].startswith("30 errors")


def test_a_changed_byte_in_a_record_does_not_go_unnoticed_downstream(runs):
    raw = json.loads(paths.record(key("gated")).read_text())
    made_up.change(key("gated"), keep=raw["keep"][::-1], removed_step=raw["removed_step"][::-1])
    assert "stale-parent" in {finding.kind for finding in findings()}


def test_an_unknown_dataset_is_refused(runs):
    with pytest.raises(LayerpruneError, match="'nothing' is not in this preset"):
        verify.verify(made_up.PRESET, "nothing")


@pytest.mark.parametrize("command", ["tables", "figures"])
def test_tables_and_figures_say_that_records_are_not_of_today_s_settings(
    runs: list[RunKey], command: str, say: Say
) -> None:
    words = [command, "--preset", made_up.PRESET, "--partial", *(["--name", "pareto"] if command == "figures" else [])]
    assert say(*words) == (0, "")
    path = paths.preset_file(made_up.PRESET)
    path.write_text(path.read_text().replace('"nu": 0.002', '"nu": 0.003'))
    status, said = say(*words)
    (line,) = said.splitlines()
    assert status == 0
    assert f"1 of these records, as that of {key('gated')}" in line and "layerprune verify" in line
