"""Rearranged code keeps its results where it makes them bit for bit, and loses them where it does not."""

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import made_up_runs as made_up
import pytest

from layerprune import cli, config, paths, provenance, record, runner
from layerprune.analysis import verify
from layerprune.errors import LayerpruneError
from layerprune.paths import RunKey
from layerprune.requalify import requalify, take_over

PRESET = """
training: {duration: 1ep, batch_size: 128, lr: 0.01}
finetune: {duration: 1ep}
datasets:
  digits:
    archs: {mlp-residual-2: {}}
    methods:
      dense: {seeds: [0, 1]}
      magnitude: {settings: {keep: 1}}
resources: {threads: 1}
data: {download: false}
"""
OLDER = "0" * 16


def run_key(method: str, seed: int = 0) -> RunKey:
    return RunKey("study", "digits", "mlp-residual-2", method, "default", seed)


KEYS = [run_key("dense"), run_key("dense", 1), run_key("magnitude")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(root))
        path = paths.preset_file("study")
        path.parent.mkdir()
        path.write_text(PRESET)
        for key in KEYS:
            runner.run(key, "cpu", 1, lambda *told: None, lambda line: None)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose records say that older code made them; a child names its parent as it was then."""
    folder = Path(shutil.copytree(made, tmp_path / "study"))
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(folder))
    for key in KEYS:
        edit(key, lambda source: {"source_digest": OLDER})
    parent = record.read(paths.record(run_key("dense"))).digest()
    edit(run_key("magnitude"), lambda source: {"parents": {str(run_key("dense")): parent}})
    return folder


def edit(key: RunKey, changes: Callable[[record.Provenance], dict]) -> None:
    old = record.read(paths.record(key))
    source = old.provenance.model_copy(update=changes(old.provenance))
    record.write(paths.record(key), old.model_copy(update={"provenance": source}))


def kinds() -> set[str]:
    return {finding.kind for finding in verify.verify("study") if finding.is_error}


def test_equal_results_stay_current_and_say_by_whose_witness(root: Path) -> None:
    assert kinds() == {"stale-code"}
    assert requalify("study", None, 2, lambda line: None) == []
    assert kinds() == set()
    second = record.read(paths.record(run_key("dense", 1))).provenance
    assert second.source_digest == provenance.source_digest("digits", "mlp-residual-2", "dense")
    (entry,) = second.requalified
    assert (entry["source_digest"], entry["witness"]) == (OLDER, str(run_key("dense")))


def test_a_child_that_comes_later_finds_its_parent_renewed(root: Path) -> None:
    path = paths.record(run_key("magnitude"))
    child = path.read_bytes()
    path.unlink()
    requalify("study", None, 2, lambda line: None)
    path.write_bytes(child)
    requalify("study", None, 2, lambda line: None)
    assert kinds() == set()


def test_nothing_is_run_when_nothing_is_stale(root: Path) -> None:
    requalify("study", None, 2, lambda line: None)
    said: list[str] = []
    assert requalify("study", None, 2, said.append) == []
    assert said == ["0 records of study are stale by their code, 0 witnesses are to be run"]


def change_accuracy(key: RunKey) -> None:
    old = record.read(paths.record(key))
    record.write(paths.record(key), old.model_copy(update={"val_accuracy": old.val_accuracy / 2}))


def change_curve(key: RunKey) -> None:
    with paths.curves(key).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[-1]["train_loss"] += "1"
    with paths.curves(key).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("change", [change_accuracy, change_curve])
def test_other_results_stay_stale_with_all_that_starts_from_them(root: Path, change: Callable) -> None:
    change(run_key("dense"))
    edit(run_key("magnitude"), lambda source: {"parents": {str(run_key("dense")): digest(run_key("dense"))}})
    assert requalify("study", None, 2, lambda line: None) == [run_key("dense")]
    stale = [finding.where for finding in verify.verify("study") if finding.kind == "stale-code"]
    assert stale == [str(key) for key in KEYS]
    assert record.read(paths.record(run_key("dense", 1))).provenance.requalified == []


def digest(key: RunKey) -> str:
    return record.read(paths.record(key)).digest()


def test_only_what_starts_from_nothing_refuted_is_renewed(root: Path) -> None:
    change_accuracy(run_key("magnitude"))
    assert requalify("study", None, 2, lambda line: None) == [run_key("magnitude")]
    stale = [finding.where for finding in verify.verify("study") if finding.kind == "stale-code"]
    assert stale == [str(run_key("magnitude"))]


def test_records_of_other_settings_are_left_alone(root: Path) -> None:
    paths.preset_file("study").write_text(PRESET.replace("lr: 0.01", "lr: 0.02"))
    before = [paths.record(key).read_bytes() for key in KEYS]
    assert requalify("study", None, 2, lambda line: None) == []
    assert [paths.record(key).read_bytes() for key in KEYS] == before


# --- a smaller sample -------------------------------------------------------------------------------------------


@pytest.fixture
def two_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunKey]:
    """Made-up records of two networks, all made by older code; gated of lenet5 took least time. Nothing is trained."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    chosen = ["dense", "gated", "sss", "magnitude", "random"]
    keys = made_up.write_study(made_up.preset({"lenet5": {}, "mlp-residual-20": {}}, chosen, seeds=(0, 1)), "study")
    for key in keys:
        quick = key.arch == "mlp-residual-20" or key.method == "gated"
        made_up.change(key, provenance__source_digest=OLDER, wall_seconds_own=1.0 + quick * -0.5)
    return keys


def requalify_without_running(monkeypatch: pytest.MonkeyPatch, differing: Callable[[RunKey], bool]) -> list[RunKey]:
    """The witnesses of the smaller sample; those that `differing` names come out otherwise."""
    ran: list[RunKey] = []
    monkeypatch.setattr("layerprune.requalify._run_all", lambda preset, name, witnesses, *rest: ran.extend(witnesses))
    monkeypatch.setattr("layerprune.requalify._same", lambda key, made: not differing(key))
    requalify("study", None, 2, lambda line: None, covering=True)
    return ran


def still_stale(keys: list[RunKey]) -> set[tuple[str, str]]:
    made_by = {key: record.read(paths.record(key)).provenance.source_digest for key in keys}
    return {(key.arch, key.method) for key, digest in made_by.items() if digest == OLDER}


def test_the_smaller_sample_has_every_method_every_network_and_what_they_start_from(
    two_networks: list[RunKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = requalify_without_running(monkeypatch, lambda key: False)
    assert {key.method for key in ran} == {key.method for key in two_networks} and {key.seed for key in ran} == {0}
    assert {(key.arch, key.method) for key in ran} == {
        *(("mlp-residual-20", method) for method in ("dense", "gated", "sss", "magnitude", "random")),
        ("lenet5", "gated"),
    }
    assert still_stale(two_networks) == set()
    sss = next(key for key in two_networks if (key.arch, key.method) == ("lenet5", "sss"))
    (entry,) = record.read(paths.record(sss)).provenance.requalified
    assert entry["witness"] == f"{str(sss).replace('lenet5', 'mlp-residual-20')}, 1 of lenet5"


def test_a_witness_of_the_smaller_sample_that_differs_refutes_its_method_and_its_network(
    two_networks: list[RunKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    requalify_without_running(monkeypatch, lambda key: (key.arch, key.method) == ("mlp-residual-20", "sss"))
    assert still_stale(two_networks) == {("mlp-residual-20", "sss"), ("lenet5", "sss")}


def test_another_preset_takes_over_what_was_shown_and_nothing_else(
    two_networks: list[RunKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = made_up.preset(
        {"lenet5": {}, "mlp-residual-20": {}}, ["dense", "gated", "sss", "magnitude", "random"], (0, 1)
    )
    others = made_up.write_study(raw, "other")
    for key in others:
        made_up.change(key, provenance__source_digest="1" * 16 if key.method == "random" else OLDER)
    requalify_without_running(monkeypatch, lambda key: key.method == "sss")
    said: list[str] = []
    take_over("other", "study", None, said.append)
    digests = {key: record.read(paths.record(key)).provenance.source_digest for key in others}
    assert {key.method for key, digest in digests.items() if digest in (OLDER, "1" * 16)} == {"sss", "random"}
    assert said == ["20 records of other are stale by their code, study speaks for 12 of them"]


def test_the_command_line_fails_where_something_differs(root: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    change_accuracy(run_key("magnitude"))
    monkeypatch.setattr("sys.argv", ["layerprune", "requalify", "--preset", "study"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert f"differs: {run_key('magnitude')}" in capsys.readouterr().out


@pytest.mark.parametrize(("stderr", "reason"), [("", "ended with status -9"), ("first\nlast\n", "last")])
def test_a_witness_that_cannot_be_run_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch, stderr, reason) -> None:
    killed = subprocess.CompletedProcess([], -9, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: killed)
    monkeypatch.setattr(provenance, "commit", lambda: None)
    with pytest.raises(LayerpruneError, match=f"cannot be run again: {reason}"):
        requalify("study", None, 1, lambda line: None)
    assert kinds() == {"stale-code"}


def test_a_setting_added_later_leaves_old_digests_alone() -> None:
    key = run_key("dense")
    raw = {"datasets": {"digits": {"archs": {"mlp-residual-2": {}}, "methods": {"dense": {}}}}}
    settings = config.resolve(config.parse_preset(raw, "here"), key)
    assert "precision" not in settings.science()["training"] and "model" not in settings.science()
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"precision": "bf16"})})
    assert other.science()["training"]["precision"] == "bf16" and other.digest() != settings.digest()
