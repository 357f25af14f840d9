"""What makes a record current, and that damaged or exchanged files are never taken for a run's own."""

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store import PRESET, RUNS, make, run_key, trained, write_preset

from layerprune import cli
from layerprune.analysis import verify
from layerprune.core import version
from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, packing, record, store
from layerprune.suite import run as running
from layerprune.suite.folder import described_in, network_in
from layerprune.suite.run import prepare
from layerprune.system import files, paths

__all__ = ["trained"]  # a fixture
DENSE, GATED, MAGNITUDE = run_key("dense"), run_key("gated"), run_key("magnitude")
KINDS = {"weights": paths.weights, "arch": paths.arch, "curves": paths.curves}


@pytest.fixture
def study(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


def errors() -> list[verify.Finding]:
    return [finding for finding in verify.verify("study") if finding.is_error]


def kinds_of_errors() -> set[tuple[str, str]]:
    return {(finding.kind, finding.where) for finding in errors()}


def flip(path: Path, place: int) -> None:
    """One bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def is_current(key: paths.RunKey) -> bool:
    return current.is_current(config.load_preset("study"), store.find(key))


# --- versions, settings, data, parents ------------------------------------------------------------------------------


def test_an_untouched_study_is_current(study: Path) -> None:
    assert all(map(is_current, RUNS)) and errors() == []


def test_a_version_makes_the_records_stale_that_depend_on_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version.versions_of
    monkeypatch.setattr(current, "versions_of", lambda *names: before(*names) | {"method": 1 + (names[2] == "gated")})
    assert [key.method for key in RUNS if not is_current(key)] == ["gated", "gated"]


@pytest.mark.parametrize("source", ["digits", "other digits"])
def test_data_other_than_the_staged_make_a_record_stale(study: Path, source: str) -> None:
    """Also where no file of the two has the same name, as in the archive of CIFAR-10 and its copy as JPEG."""
    manifest = {"source": source, "checksums": {"other-file": "0" * 64}}
    files.write_json(paths.data_manifest("study", "digits"), manifest)
    assert kinds_of_errors() == {("stale-data", str(key)) for key in RUNS}
    assert not is_current(DENSE)


def test_where_no_data_are_staged_those_of_the_store_count(study: Path) -> None:
    """As where two machines read copies that were encoded each in its own way."""
    list(packing.pack("study", ["digits"], weights=False))
    paths.data_manifest("study", "digits").unlink(missing_ok=True)
    assert all(map(is_current, RUNS))
    made = store.find(DENSE)
    source = made.provenance.model_copy(update={"data_checksums": {"images": "0" * 64}})
    record.write(paths.record(DENSE), made.model_copy(update={"provenance": source}))
    (found,) = current.differences(config.load_preset("study"), store.find(DENSE))
    assert found.kind == "stale-data" and "in the store" in found.message


@pytest.mark.parametrize("content", [[], None, 1, {"checksums": 5}, {"checksums": {"a": 1}}, {"checksums": [1]}])
def test_what_is_no_manifest_is_named(study: Path, content: object) -> None:
    path = paths.data_manifest("study", "digits")
    files.write_json(path, content)
    with pytest.raises(LayerpruneError, match=r"data\.json: not a manifest of data; run: layerprune stage digits$"):
        list(current.differences(config.load_preset("study"), store.find(DENSE)))


@pytest.mark.parametrize("place", ["recorded", "staged"])
def test_a_file_of_the_data_that_only_one_side_has_is_named(study: Path, place: str) -> None:
    made = store.find(DENSE)
    more = made.provenance.data_checksums | {"extra-file": "0" * 64}
    if place == "recorded":
        source = made.provenance.model_copy(update={"data_checksums": more})
        record.write(paths.record(DENSE), made.model_copy(update={"provenance": source}))
        more = made.provenance.data_checksums
    files.write_json(paths.data_manifest("study", "digits"), {"source": made.data_source, "checksums": more})
    found = list(current.differences(config.load_preset("study"), store.find(DENSE)))
    assert [each.kind for each in found] == ["stale-data"] and found[0].message.startswith("extra-file: ")


def test_a_child_is_not_paired_with_a_parent_that_saw_other_data(study: Path) -> None:
    made = store.find(DENSE)
    source = made.provenance.model_copy(update={"data_checksums": {"other-file": "0" * 64}})
    record.write(paths.record(DENSE), made.model_copy(update={"provenance": source}))
    with pytest.raises(LayerpruneError, match=r"its parent run study/digits/.*/dense/.* was trained on other data"):
        make(MAGNITUDE)


def test_presets_name_the_source_of_their_data(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    for path in sorted((repository / "config").glob("*.yaml")):
        assert all(block.source is not None for block in config.read_preset(path).datasets.values()), path.name


def test_a_parent_made_anew_makes_its_children_stale_unless_the_store_has_theirs(study: Path) -> None:
    list(packing.pack("study", ["digits"], weights=False))
    made = store.find(DENSE)
    record.write(paths.record(DENSE), made.model_copy(update={"val_accuracy": 0.25}))
    assert is_current(MAGNITUDE)  # it started from the record in the store
    for path in (study / "results" / "study" / "digits").glob("*.jsonl*"):
        path.unlink()
    assert not is_current(MAGNITUDE)


def test_a_parent_that_the_preset_does_not_name_makes_a_record_stale(study: Path) -> None:
    made = store.find(MAGNITUDE)
    parents = made.provenance.parents | {str(GATED): store.find(GATED).digest()}
    source = made.provenance.model_copy(update={"parents": parents})
    record.write(paths.record(MAGNITUDE), made.model_copy(update={"provenance": source}))
    assert kinds_of_errors() == {("stale-parent", str(MAGNITUDE))} and not is_current(MAGNITUDE)


def test_a_run_needs_no_folder_where_the_store_has_its_current_record_and_no_folder_another(study: Path) -> None:
    def is_stored() -> bool:
        return current.is_stored(config.load_preset("study"), GATED)

    assert is_stored() is False  # a folder alone
    list(packing.pack("study", ["digits"], weights=False))
    assert is_stored() is True
    record.write(paths.record(GATED), store.find(GATED).model_copy(update={"val_accuracy": 0.25}))
    assert is_stored() is False
    shutil.rmtree(paths.run_folder(GATED))
    assert is_stored() is True
    write_preset(study, PRESET.replace("nu: 0.003", "nu: 0.004"))
    assert is_stored() is False


# --- files ----------------------------------------------------------------------------------------------------------

PLACES = random.Random(3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_seen_by_everyone_who_reads_the_file(study: Path, kind: str) -> None:
    path = KINDS[kind](DENSE)
    before = path.read_bytes()
    for place in (0, len(before) - 1, *(PLACES.randrange(len(before)) for _ in range(8))):
        flip(path, place)
        assert ("damaged", str(DENSE)) in kinds_of_errors()
        assert current.damage(DENSE, store.find(DENSE)).startswith(f"{path}: damaged or altered")
        readers = {"weights": network_in, "arch": described_in, "curves": lambda _: store.curves(DENSE)}
        with pytest.raises(LayerpruneError, match="damaged or altered"):
            readers[kind](paths.run_folder(DENSE))
        path.write_bytes(before)
    assert errors() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_gone_is_damage(study: Path, kind: str) -> None:
    KINDS[kind](DENSE).unlink()
    assert current.damage(DENSE, store.find(DENSE)) == f"{KINDS[kind](DENSE)}: no such file"


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "flipped"])
def test_a_run_with_damaged_weights_is_made_again(study: Path, content: bytes | None) -> None:
    path, lines = paths.weights(DENSE), []
    before = path.read_bytes()
    path.write_bytes(content) if content is not None else flip(path, len(before) // 2)
    running.run(DENSE, "cpu", 1, lambda *_: None, lines.append)
    assert path.read_bytes() == before and "the run is made again" in lines[0]


def test_a_child_does_not_start_from_damaged_weights(study: Path) -> None:
    shutil.rmtree(paths.run_folder(MAGNITUDE))
    flip(paths.weights(DENSE), 5000)
    with pytest.raises(LayerpruneError, match=r"weights.safetensors: damaged or altered"):
        make(MAGNITUDE)
    assert not paths.record(MAGNITUDE).exists()


@pytest.mark.parametrize("words", [["show"], ["export", "--format", "state-dict"], ["latency", "--repeats", "1"]])
def test_commands_refuse_a_damaged_folder(
    study: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flip(paths.weights(DENSE) if words[0] == "export" else paths.arch(DENSE), 300)
    monkeypatch.setattr("sys.argv", ["layerprune", words[0], str(paths.run_folder(DENSE)), *words[1:]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "damaged or altered" in capsys.readouterr().err


def test_a_state_with_a_flipped_bit_is_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run_key("dense", seed=5)
    interrupt_after_an_epoch(monkeypatch, key)
    before = paths.state(key).read_bytes()
    for place in (0, len(before) - 1, *(PLACES.randrange(len(before)) for _ in range(20))):
        flip(paths.state(key), place)
        with pytest.raises(LayerpruneError, match=r"state.pt: damaged: .*; delete it to start this run over"):
            make(key)
        paths.state(key).write_bytes(before)
    assert make(key).resumed == 1


def interrupt_after_an_epoch(monkeypatch: pytest.MonkeyPatch, key: paths.RunKey) -> None:
    from layerprune.core.training.loop import Trainer

    write_preset(paths.root(), PRESET + "resources: {state_seconds: 0}\n")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original, calls = Trainer._epoch, iter(range(9))
        patch.setattr(Trainer, "_epoch", lambda trainer: stop() if next(calls) == 1 else original(trainer))
        make(key)


# --- the order of writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped_at", ["weights.safetensors", "arch.json", "curves.csv", "record.json"])
def test_no_record_stands_beside_the_files_of_another_run(
    study: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    """Made with one setting; made again with another and killed while its files are written; the setting put back."""
    before = store.find(DENSE)
    write_preset(study, PRESET.replace("lr: 0.02", "lr: 0.01"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "replace", stopping_at(stopped_at, files.os.replace))
        make(DENSE)
    write_preset(study)
    again = make(DENSE)
    assert current.damage(DENSE, again) is None and is_current(DENSE)
    assert again.digest() == before.digest() and again.files.weights == before.files.weights


def stopping_at(name: str, replace: Callable) -> Callable:
    """As a kill just before a file takes its name."""

    def stop(temporary: object, target: Path) -> None:
        if target.name == name:
            raise KeyboardInterrupt
        replace(temporary, target)

    return stop


# --- what verify sees besides ---------------------------------------------------------------------------------------


def edit(key: paths.RunKey, reseal: bool, **changes: object) -> None:
    raw = json.loads(paths.record(key).read_text())
    for name, value in changes.items():
        (raw["provenance"] if name in raw["provenance"] else raw)[name] = value
    paths.record(key).write_text(json.dumps(raw | ({"checksum": record.checksum_of(raw)} if reseal else {})))


def test_an_edited_accuracy_is_seen(study: Path) -> None:
    edit(GATED, reseal=False, test_accuracy=0.999)
    assert ("unreadable", str(GATED)) in kinds_of_errors()


def test_a_key_written_twice_is_seen(study: Path) -> None:
    path = paths.record(GATED)
    path.write_text(path.read_text().replace('"seed": 0,', '"seed": 0, "seed": 0,', 1))
    assert ("unreadable", str(GATED)) in kinds_of_errors()


def test_settings_that_do_not_fit_their_digest_are_seen(study: Path) -> None:
    settings = store.find(MAGNITUDE).provenance.config
    training = settings["training"] | {"lr": 0.5}
    edit(MAGNITUDE, reseal=True, config=settings | {"training": training})
    (found,) = [finding for finding in errors() if finding.kind == "out-of-range"]
    assert "config_digest" in found.message and found.where == str(MAGNITUDE)


@pytest.mark.parametrize(
    ("mark", "commit", "change"), [("abc \n", "abc", None), ("abc 0123\n", "abc", "0123"), (None, None, None)]
)
def test_a_copy_without_git_says_its_commit_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str | None, commit: str | None, change: str | None
) -> None:
    monkeypatch.setattr(prepare, "_REPOSITORY", tmp_path)
    if mark is not None:
        (tmp_path / ".commit").write_text(mark)
    assert (prepare._commit(), prepare._dirty_digest()) == (commit, change)


def test_a_new_file_of_the_code_is_a_change_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_REPOSITORY", tmp_path)
    (tmp_path / "src").mkdir()
    for name in ("src/old.py", "src/new.py", "notes.txt"):
        (tmp_path / name).write_text("first")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "src/old.py"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    seen = [prepare._dirty_digest()]
    (tmp_path / "src/new.py").write_text("second")
    seen.append(prepare._dirty_digest())
    (tmp_path / "src/new.py").unlink()
    assert len({*seen}) == 2 and None not in seen and prepare._dirty_digest() is None
