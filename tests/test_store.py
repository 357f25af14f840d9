"""The store holds what the runs' folders held, checks it, and gives it back; and an accuracy can be measured again."""

import json
import lzma
import os
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import filelock
import pytest

from layerprune import cli
from layerprune.analysis import build
from layerprune.errors import LayerpruneError
from layerprune.suite import packing, record, store
from layerprune.suite import run as running
from layerprune.system import paths
from layerprune.system.paths import RunKey

PRESET = """
training: {duration: 2ep, batch_size: 64, lr: 0.02}
finetune: {duration: 1ep}
datasets:
  digits:
    source: digits
    archs: {mlp-residual-4: {}}
    methods:
      dense: {}
      gated:
        settings: {nu: 0.003, theta_lr: 2.0, warmup: 0ep, check_interval: 5, checks: 2}
        variants: {traced: {settings: {watch: true, check_interval: 1}}}
      magnitude: {settings: {keep: 2}}
"""


def run_key(method: str, variant: str = "default", seed: int = 0) -> RunKey:
    return RunKey("study", "digits", "mlp-residual-4", method, variant, seed)


RUNS = [run_key("dense"), run_key("gated"), run_key("gated", "traced"), run_key("magnitude")]


def write_preset(root: Path, text: str = PRESET) -> None:
    (root / "config").mkdir(exist_ok=True)
    (root / "config" / "study.yaml").write_text(text)


def make(key: RunKey) -> record.Record:
    return running.run(key, "cpu", 1, lambda *_: None, lambda _: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the runs of PRESET in their folders. Not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    write_preset(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(root))
        for key in RUNS:
            make(key)
    return root


@pytest.fixture
def study(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed at will."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


def pack(weights: bool = False) -> list[str]:
    return list(packing.pack("study", ["digits"], weights))


def forget_folders() -> None:
    for key in packing.in_folders("study"):
        shutil.rmtree(paths.run_folder(key))


def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit status, and what the command line prints."""
    monkeypatch.setattr("sys.argv", ["layerprune", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


# --- there and back -------------------------------------------------------------------------------------------------


def test_records_curves_and_networks_come_back_as_they_were(study: Path) -> None:
    before = {key: (store.find(key), store.curves(key), store.arch(key)) for key in RUNS}
    assert all(value is not None for found in before.values() for value in found)
    pack()
    forget_folders()
    assert {key: (store.find(key), store.curves(key), store.arch(key)) for key in RUNS} == before
    assert all(store.weights(key) is None for key in RUNS)


def test_tables_and_figures_are_the_same_from_the_store(study: Path) -> None:
    def made() -> dict[str, bytes]:
        written = [*build.build_tables("study", "digits"), *build.build_figures("study", "digits", ["theta"])]
        return {path.name: path.read_bytes() for path in written}

    from_folders = made()
    pack()
    forget_folders()
    assert made() == from_folders


def test_a_record_is_one_line_with_sorted_keys_and_packing_again_changes_nothing(study: Path) -> None:
    assert pack() == [f"{paths.stored_records('study', 'digits')}: 4 runs packed, 4 of them new"]
    own = paths.stored_records, paths.stored_arrays, paths.stored_texts
    files = [path("study", "digits") for path in own]
    before = [path.read_bytes() for path in files]
    lines = [json.loads(line) for line in before[0].splitlines()]
    assert [list(line) == sorted(line) for line in lines] == [True] * 4
    assert [line["variant"] for line in lines if line["method"] == "gated"] == ["default", "traced"]
    assert pack() == [f"{paths.stored_records('study', 'digits')}: 4 runs packed, 0 of them new"]
    assert [path.read_bytes() for path in files] == before


def test_what_is_long_lies_apart(study: Path) -> None:
    pack()
    (line,) = [line for line in paths.stored_records("study", "digits").read_text().splitlines() if "traced" in line]
    assert "watch" not in json.loads(line)["details"] and "config" not in json.loads(line)["provenance"]
    assert len(line) < 4000
    assert len(store.stored(run_key("gated", "traced")).details["watch"]["theta"]) > 3


def test_a_large_file_has_parts_and_they_go_when_it_shrinks(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {key: store.find(key) for key in RUNS}
    curves = {key: store.curves(key) for key in RUNS}
    monkeypatch.setattr(store, "LARGEST_PART", 500)
    pack()
    folder = study / "results" / "study" / "digits"
    assert {path.name for path in folder.glob("*.xz")} > {"arrays.jsonl.xz", "arrays.2.jsonl.xz", "curves.2.jsonl.xz"}
    assert {key: store.find(key) for key in RUNS} == wanted
    pack()
    forget_folders()
    assert {key: store.stored(key) for key in RUNS} == wanted
    assert {key: store.curves(key) for key in RUNS} == curves
    monkeypatch.setattr(store, "LARGEST_PART", 10**6)
    store.pack("study", "digits", [])
    assert {path.name for path in folder.glob("*.xz")} == {"arrays.jsonl.xz", "curves.jsonl.xz"}
    assert {key: store.stored(key) for key in RUNS} == wanted


def test_a_folder_wins_over_the_store(study: Path) -> None:
    pack()
    changed = store.find(run_key("dense")).model_copy(update={"test_accuracy": 0.5})
    record.write(paths.record(run_key("dense")), changed)
    assert store.find(run_key("dense")).test_accuracy == 0.5 != store.stored(run_key("dense")).test_accuracy


def test_unpacking_writes_the_folders_and_leaves_those_that_are_there(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [path(key) for key in RUNS for path in (paths.record, paths.curves, paths.arch)]
    before = [path.read_bytes() for path in wanted]
    pack(weights=True)
    weights = paths.weights(run_key("dense")).read_bytes()
    forget_folders()
    assert "4 runs unpacked" in command(capsys, monkeypatch, "results", "unpack", "--preset", "study")[1]
    assert [path.read_bytes() for path in wanted] == before
    assert paths.weights(run_key("dense")).read_bytes() == weights
    assert "0 runs unpacked" in command(capsys, monkeypatch, "results", "unpack", "--preset", "study")[1]


# --- runs made anew -------------------------------------------------------------------------------------------------


def made_elsewhere(key: RunKey) -> None:
    """As if a run had been made anew on a machine that rounds otherwise."""
    made = store.find(key)
    record.write(
        paths.record(key), made.model_copy(update={"train_macs_own": 7, "finished_at": "2099-01-01T00:00:00Z"})
    )


def test_an_older_record_stays_as_long_as_a_stored_run_starts_from_it(study: Path) -> None:
    pack()
    first = store.stored(run_key("dense"))
    made_elsewhere(run_key("dense"))
    pack()
    assert store.stored(run_key("dense")).train_macs_own == 7
    assert store.digests(run_key("dense")) == {first.digest(), store.stored(run_key("dense")).digest()}
    child = store.find(run_key("magnitude"))
    parents = {str(run_key("dense")): store.stored(run_key("dense")).digest()}
    source = child.provenance.model_copy(update={"parents": parents})
    record.write(paths.record(child.key), child.model_copy(update={"provenance": source}))
    pack()
    assert store.digests(run_key("dense")) == {store.stored(run_key("dense")).digest()}


def test_two_records_of_a_run_each_keep_what_is_long_of_theirs(study: Path) -> None:
    first = store.find(run_key("dense"))
    pack()
    second = record.write(paths.record(first.key), first.model_copy(update={"details": {"long": list(range(1000))}}))
    pack()
    assert store.all_stored(first.key) == [first, second]


def test_a_run_that_reaches_the_same_again_has_one_record(study: Path) -> None:
    """Its first result, another, and the first once more on a later day, while a run starts from the first."""
    first = store.find(run_key("dense"))
    pack()
    made_elsewhere(first.key)
    pack()
    later = record.write(paths.record(first.key), first.model_copy(update={"finished_at": "2099-01-02T00:00:00Z"}))
    pack()
    assert store.all_stored(first.key) == [later] and later.digest() == first.digest()


def test_an_older_record_that_nothing_starts_from_is_replaced(study: Path) -> None:
    pack()
    made_elsewhere(run_key("gated"))
    pack()
    assert len(store.all_stored(run_key("gated"))) == 1


def test_a_stale_folder_takes_no_record_s_place(study: Path) -> None:
    """As after new records were pulled where older runs still lay."""
    pack(weights=True)
    right = store.stored(run_key("dense"))
    source = right.provenance.model_copy(update={"versions": right.provenance.versions | {"results": 0}})
    record.write(paths.record(right.key), right.model_copy(update={"provenance": source, "test_accuracy": 0.1}))
    first, second = pack(weights=True)[:2]
    assert re.match(rf"{right.key}: left out: stale-code: versions .*'results': 0", first)
    assert second.endswith("3 runs packed, 0 of them new")
    shutil.rmtree(paths.run_folder(right.key))
    assert store.find(right.key) == right


def test_a_folder_whose_record_cannot_be_read_is_an_error_and_nothing_is_packed(study: Path) -> None:
    paths.record(run_key("gated")).write_text("{}")
    with pytest.raises(LayerpruneError, match=r"gated/default/seed0/record\.json: "):
        pack()
    assert not paths.stored_records("study", "digits").exists()


def test_a_run_that_the_preset_does_not_have_is_left_out(study: Path) -> None:
    write_preset(study, PRESET.replace("      magnitude: {settings: {keep: 2}}\n", ""))
    assert pack()[0].startswith(f"{run_key('magnitude')}: left out: ")
    assert store.stored(run_key("magnitude")) is None and store.stored(run_key("gated")) is not None


@pytest.mark.parametrize("parts", [1, 3])
def test_packing_that_is_interrupted_leaves_the_store_as_it_was(
    study: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Wherever it is: files are written as long as none has taken its place."""
    monkeypatch.setattr(store, "LARGEST_PART", 0 if parts > 1 else 900_000)
    pack()
    before = {path: path.read_bytes() for path in (study / "results").rglob("*.jsonl*")}
    made_elsewhere(run_key("gated"))
    for whole in range(len(before)):
        outcomes = [None] * whole + [KeyboardInterrupt]
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "fsync", Mock(side_effect=outcomes))
            pack()
        assert {path: path.read_bytes() for path in (study / "results").rglob("*.jsonl*")} == before
        assert not list(study.rglob("*.tmp"))
    pack()
    assert store.stored(run_key("gated")).train_macs_own == 7


def test_two_processes_do_not_pack_at_once(study: Path) -> None:
    with filelock.FileLock(paths.pack_lock("study", "digits")), pytest.raises(LayerpruneError, match="by another"):
        pack()


# --- damage ---------------------------------------------------------------------------------------------------------


def test_an_edited_number_in_the_store_is_refused(study: Path) -> None:
    pack()
    forget_folders()
    path = paths.stored_records("study", "digits")
    path.write_text(re.sub(r'"test_accuracy": 0\.\d', '"test_accuracy": 0.1', path.read_text()))
    with pytest.raises(LayerpruneError, match=r"records.jsonl: study/digits/.*: altered since it was written"):
        store.find(run_key("dense"))


@pytest.mark.parametrize("name", ["curves.jsonl.xz", "arrays.jsonl.xz"])
def test_a_damaged_file_of_the_store_is_named(study: Path, name: str) -> None:
    pack()
    forget_folders()
    path = study / "results" / "study" / "digits" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LayerpruneError, match=rf"{name}: damaged"):
        store.find(run_key("dense")), store.curves(run_key("dense"))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("{", "", r"records.jsonl: line 2: "),
        ('"variant"', '"grain"', r"records.jsonl: a line that names no run"),
        ('"provenance"', '"origin"', r"records.jsonl: study/digits/.*: provenance"),
    ],
    ids=["no JSON", "no run", "no provenance"],
)
def test_a_malformed_line_of_the_store_is_named(study: Path, old: str, new: str, complaint: str) -> None:
    pack()
    forget_folders()
    path = paths.stored_records("study", "digits")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace(old, new, 1), *lines[2:]]))
    with pytest.raises(LayerpruneError, match=complaint):
        store.find(run_key("gated"))


def test_curves_of_another_run_are_not_taken_for_its_own(study: Path) -> None:
    pack()
    forget_folders()
    path = paths.stored_texts("study", "digits")
    lines = [json.loads(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
    lines[0]["curves"] = lines[1]["curves"]
    path.write_bytes(lzma.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode()))
    with pytest.raises(LayerpruneError, match="damaged or altered"):
        store.curves(run_key("dense"))


def test_a_key_that_stands_twice_is_refused(study: Path) -> None:
    path = paths.record(run_key("dense"))
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 0,\n  "seed": 0', 1))
    with pytest.raises(LayerpruneError, match="key 'seed' appears twice"):
        record.read(path)


def test_a_run_whose_files_were_altered_is_not_packed(study: Path) -> None:
    paths.curves(run_key("dense")).write_text("epoch,step\n0,0\n")
    with pytest.raises(LayerpruneError, match=r"curves.csv: damaged or altered"):
        pack()
    assert not paths.stored_records("study", "digits").exists()


# --- weights of headline networks, and their accuracy again ---------------------------------------------------------


def evaluate_words(method: str) -> list[str]:
    names = {"preset": "study", "dataset": "digits", "arch": "mlp-residual-4", "method": method}
    return ["evaluate", *(word for name, value in names.items() for word in (f"--{name}", value))]


def test_the_weights_of_dense_and_gated_are_kept_and_give_the_recorded_accuracy(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(weights=True)
    forget_folders()
    kept = {path.name for path in (study / "results/study/digits/weights").iterdir()}
    assert kept == {f"mlp-residual-4.{method}.default.seed0.safetensors" for method in ("dense", "gated")}
    for method in ("dense", "gated"):
        status, out, err = command(capsys, monkeypatch, *evaluate_words(method))
        accuracy = f"{100 * store.stored(run_key(method)).test_accuracy:.2f} %"
        assert (status, err) == (0, "") and f"test accuracy {accuracy}, recorded {accuracy}: the same" in out
    status, _, err = command(capsys, monkeypatch, *evaluate_words("magnitude"))
    assert status == 2 and "no weights" in err


def test_a_run_starts_from_stored_weights_as_it_did_from_those_in_a_folder(study: Path) -> None:
    before = store.find(run_key("magnitude"))
    pack(weights=True)
    forget_folders()
    again = make(run_key("magnitude"))
    assert again.digest() == before.digest() and again.files.weights == before.files.weights
    assert not paths.run_folder(run_key("dense")).exists()


def test_another_accuracy_than_the_recorded_one_is_said_with_status_1(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.find(run_key("dense"))
    record.write(paths.record(made.key), made.model_copy(update={"test_accuracy": made.test_accuracy - 0.05}))
    status, out, _ = command(capsys, monkeypatch, *evaluate_words("dense"))
    assert status == 1 and "differs by 18 of 360 images, NOT the recorded accuracy" in out


def test_weights_that_were_altered_are_not_evaluated(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(weights=True)
    forget_folders()
    path = paths.stored_weights(run_key("dense"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    status, _, err = command(capsys, monkeypatch, *evaluate_words("dense"))
    assert status == 2 and "safetensors: damaged or altered" in err


def test_weights_that_find_no_room_are_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {key: paths.weights(key).stat().st_size for key in RUNS[:2]}
    smaller, larger = sorted(sizes, key=sizes.get)
    monkeypatch.setattr(packing, "MOST_BYTES", sizes[smaller] + sizes[larger] - 1)
    assert next(line for line in pack(weights=True) if "left out" in line).startswith(str(paths.weights(larger)))
    assert paths.stored_weights(smaller).is_file() and not paths.stored_weights(larger).exists()
