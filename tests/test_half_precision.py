"""Weights of headline networks in half precision: they give the recorded accuracy, and no run starts from them."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import REPOSITORY
from test_store import RUNS, command, evaluate_words, forget_folders, make, run_key, study, trained, write_preset

from layerprune.analysis import verify
from layerprune.core.networks import storage
from layerprune.errors import LayerpruneError
from layerprune.suite import half_precision, packing, record, store
from layerprune.system import files, paths
from layerprune.system.files import sha256
from layerprune.system.paths import RunKey

__all__ = ["study", "trained"]  # fixtures
DENSE, GATED, MAGNITUDE = run_key("dense"), run_key("gated"), run_key("magnitude")


def pack(judge: packing.Judge) -> list[str]:
    return list(packing.pack("study", ["digits"], True, judge))[1:]


def always(key: RunKey) -> Callable[[Path], float]:
    return lambda weights: 0.5


def never(key: RunKey) -> Callable[[Path], float]:
    return lambda weights: float(weights == paths.weights(key))


def without_data(key: RunKey) -> Callable[[Path], float]:
    raise LayerpruneError("data/digits: no such file")


def stored_names() -> set[str]:
    return {path.name for path in paths.all_stored_weights()}


def errors() -> list[str]:
    return [str(each) for each in verify.verify("study") if each.is_error]


# --- the file -------------------------------------------------------------------------------------------------------

WEIGHTS = {
    "conv": np.array([[[[1 + 2**-13, 0.1]]]], np.float32),
    "bias": np.array([1 + 2**-13], np.float32),
    "running_var": np.array([1e5, 1e-9], np.float32),
    "count": np.array(70_000),
}


def test_matrices_are_rounded_to_float16_and_vectors_and_counters_stay() -> None:
    content = half_precision.rounded(safetensors.numpy.save(WEIGHTS), "x")
    found = safetensors.numpy.load(content)
    assert {name: value.dtype.name for name, value in found.items()} == {
        "conv": "float16",
        "bias": "float32",
        "running_var": "float32",
        "count": "int64",
    }
    assert found["conv"].tolist() == [[[[1.0, 0.0999755859375]]]]
    for name in ("bias", "running_var", "count"):
        assert np.array_equal(found[name], WEIGHTS[name])


def test_the_file_says_its_precision_and_what_it_was_rounded_from_and_is_made_alike_every_time() -> None:
    full = safetensors.numpy.save(WEIGHTS)
    content = half_precision.rounded(full, "x")
    assert half_precision.origin(content, "x") == sha256(full)
    assert b"float16" in content[:200]
    assert {half_precision.rounded(full, "x") for _ in range(20)} == {content}


def complaint(ask: Callable[[], object]) -> str:
    with pytest.raises(LayerpruneError) as raised:
        ask()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    return str(raised.value)


def test_every_changed_byte_and_a_file_cut_short_are_noticed() -> None:
    content = half_precision.rounded(safetensors.numpy.save(WEIGHTS), "x")
    places = random.Random(1)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1 << places.randrange(8)
        assert complaint(lambda altered=altered: half_precision.origin(bytes(altered), "x")).startswith("x: damaged")
        complaint(lambda place=place: half_precision.origin(content[:place], "x"))


@pytest.mark.parametrize(
    "content",
    [b"", b"noise" * 99, b"\xff" * 200, safetensors.numpy.save(WEIGHTS), safetensors.numpy.save(WEIGHTS, {"a": "b"})],
    ids=["nothing", "noise", "ones", "single precision", "metadata of others"],
)
def test_what_is_no_file_of_rounded_weights_is_refused(content: bytes) -> None:
    complaint(lambda: half_precision.origin(content, "x"))


@pytest.mark.parametrize("told", ["[]", "1", '{"checksum": 1, "rounded_from": "a"}', '{"checksum": ""}', "[" * 9000])
def test_metadata_of_another_form_is_refused(told: str) -> None:
    content = safetensors.numpy.save(WEIGHTS, {"layerprune": told})
    assert complaint(lambda: half_precision.origin(content, "x")).startswith("x: damaged or altered")


def test_noise_is_not_rounded() -> None:
    assert complaint(lambda: half_precision.rounded(b"noise" * 99, "some.file")).startswith("some.file: not a file of")


# --- packing --------------------------------------------------------------------------------------------------------


def test_weights_are_stored_in_half_precision_and_give_the_recorded_accuracy(
    study: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, err = command(capsys, monkeypatch, "results", "pack", "--preset", "study", "--weights")
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"{paths.stored_records('study', 'digits')}: 4 runs packed, 4 of them new"]
    own = [paths.weights(key).stat().st_size for key in (DENSE, GATED)]
    forget_folders()
    assert stored_names() == {f"mlp-residual-4.{name}.default.seed0.float16.safetensors" for name in ("dense", "gated")}
    assert sum(path.stat().st_size for path in paths.all_stored_weights()) < 0.6 * sum(own)
    for key in (DENSE, GATED):
        status, out, err = command(capsys, monkeypatch, *evaluate_words(key.method))
        accuracy = f"{100 * store.stored(key).test_accuracy:.2f} %"
        told = f"test accuracy {accuracy} from weights in half precision, recorded {accuracy}: the same"
        assert (status, err) == (0, "") and told in out
    assert errors() == []


@pytest.mark.parametrize(
    ("judge", "reason"),
    [(never, "half precision would change its test accuracy"), (without_data, "data/digits: no such file")],
)
def test_weights_stay_in_single_precision_where_it_is_not_known_to_be_harmless(
    study: Path, judge: packing.Judge, reason: str
) -> None:
    pack(always)
    expected = {f"{paths.weights(key)}: in single precision: {reason}" for key in (DENSE, GATED)}
    assert set(pack(judge)) == expected
    forget_folders()
    assert stored_names() == {f"mlp-residual-4.{name}.default.seed0.safetensors" for name in ("dense", "gated")}
    assert store.weights(DENSE) == paths.stored_weights(DENSE) and store.half_weights(store.stored(DENSE)) is None


def test_only_matrices_whose_rounding_changes_the_accuracy_stay_in_single_precision(study: Path) -> None:
    largest, *others = half_precision.matrices(paths.weights(DENSE).read_bytes(), "x")

    def accuracy(weights: Path) -> float:  # changes with the largest, and with two others
        precisions = {name: value.dtype for name, value in safetensors.numpy.load(weights.read_bytes()).items()}
        half = sum(precisions[name] == np.float16 for name in others)
        return 0.5 if precisions[largest] == np.float32 and half <= 1 else 0.4

    assert pack(lambda key: accuracy if key == DENSE else always(key)) == []
    precisions = {name: v.dtype for name, v in safetensors.numpy.load(paths.half_weights(DENSE).read_bytes()).items()}
    assert {name for name, dtype in precisions.items() if dtype == np.float16} == {others[0]}
    assert half_precision.origin(paths.half_weights(DENSE).read_bytes(), "x") == store.stored(DENSE).files.weights
    forget_folders()
    assert not paths.stored_weights(DENSE).exists() and errors() == []


def test_what_can_be_rounded_is_told_by_size() -> None:
    values = WEIGHTS | {
        "b": np.zeros((2, 3), np.float32),
        "a": np.zeros((3, 2), np.float32),
        "ids": np.zeros((9, 9), int),
    }
    assert half_precision.matrices(safetensors.numpy.save(values), "x") == ["a", "b", "conv"]


def test_half_precision_takes_the_place_of_single_precision(study: Path) -> None:
    pack(never)
    pack(always)
    assert not paths.stored_weights(DENSE).exists() and paths.half_weights(DENSE).is_file()


def test_the_judge_is_shown_the_trained_weights_and_the_rounded_ones(study: Path) -> None:
    seen = {}

    def judge(key: RunKey) -> Callable[[Path], float]:
        seen[key] = []
        return lambda weights: seen[key].append(weights.read_bytes()) or 0.5

    pack(judge)
    assert seen == {
        key: [paths.weights(key).read_bytes(), paths.half_weights(key).read_bytes()] for key in (DENSE, GATED)
    }


def test_a_network_that_half_precision_ruins_is_recognised(study: Path, tmp_path: Path) -> None:
    from layerprune.suite.evaluate import measure

    network = safetensors.numpy.load(paths.weights(DENSE).read_bytes())
    same, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    same.write_bytes(safetensors.numpy.save(network))
    other.write_bytes(safetensors.numpy.save({name: np.zeros_like(value) for name, value in network.items()}))
    accuracy = measure(DENSE)
    assert accuracy(paths.weights(DENSE)) == accuracy(same) != accuracy(other)


def test_the_room_is_that_of_all_presets_together(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = study / "results" / "another" / "mnist" / "weights" / "lenet5.dense.default.seed0.safetensors"
    files.write_atomically(other, lambda stream: stream.write(bytes(1000)))
    pack(always)
    sizes = sorted(paths.half_weights(key).stat().st_size for key in (DENSE, GATED))
    for path in (paths.half_weights(DENSE), paths.half_weights(GATED)):
        path.unlink()
    monkeypatch.setattr(packing, "MOST_BYTES", 1000 + sum(sizes) - 1)
    (line,) = pack(always)
    assert "left out" in line and len(paths.all_stored_weights()) == 2


def test_a_later_seed_does_not_join_one_that_is_stored(study: Path) -> None:
    pack(always)
    shutil.rmtree(paths.run_folder(DENSE))
    later = run_key("dense", seed=1)
    write_preset(study, (study / "config" / "study.yaml").read_text().replace("dense: {}", "dense: {seeds: [0, 1]}"))
    make(later)
    pack(always)
    assert store.stored(later) is not None
    assert paths.half_weights(DENSE).is_file() and not paths.half_weights(later).exists()


def test_where_the_first_seed_has_no_weights_the_next_one_is_stored(study: Path) -> None:
    later = run_key("dense", seed=1)
    write_preset(study, (study / "config" / "study.yaml").read_text().replace("dense: {}", "dense: {seeds: [0, 1]}"))
    make(later)
    paths.weights(DENSE).unlink()
    pack(always)
    assert paths.half_weights(later).is_file() and not paths.half_weights(DENSE).exists()


# --- who reads it ---------------------------------------------------------------------------------------------------


def test_no_run_starts_from_rounded_weights(study: Path) -> None:
    before, weights = store.find(MAGNITUDE), store.find(DENSE).files.weights
    pack(always)
    forget_folders()
    assert store.weights(DENSE) is None
    again = make(MAGNITUDE)
    assert store.weights(DENSE) == paths.weights(DENSE)  # which was trained again
    assert sha256(paths.weights(DENSE).read_bytes()) == weights
    assert again.digest() == before.digest() and again.files.weights == before.files.weights


def test_rounded_weights_are_not_unpacked_as_the_runs_own(study: Path) -> None:
    pack(always)
    forget_folders()
    assert all(store.unpack(key) for key in RUNS)
    assert not paths.weights(DENSE).exists() and errors() == []


def test_an_export_says_that_its_weights_were_rounded(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paths.run_folder(DENSE)
    full = storage.read_weights(paths.weights(DENSE))
    pack(always)
    paths.weights(DENSE).unlink()
    status, out, err = command(capsys, monkeypatch, "export", str(folder), "--format", "state-dict")
    path = paths.half_weights(DENSE)
    assert (status, err) == (0, f"{folder}: has no weights; taken in half precision from {path}\n")
    exported = storage.read_tensors(Path(out.strip()))
    for name, value in full.items():
        assert exported[name].dtype == value.dtype
        assert (exported[name] - value).abs().max() <= 2**-11 * value.abs().max()
    path.unlink()
    status, _, err = command(capsys, monkeypatch, "export", str(folder))
    assert status == 2 and "weights.safetensors: no such file" in err


def test_rounded_weights_that_were_altered_are_refused_and_verify_names_them(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(always)
    forget_folders()
    path = paths.half_weights(DENSE)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    status, _, err = command(capsys, monkeypatch, *evaluate_words("dense"))
    assert status == 2 and f"{path}: damaged or altered" in err
    (told,) = errors()
    assert f"{path}: damaged or altered" in told


def test_rounded_weights_of_another_run_are_refused(study: Path) -> None:
    pack(always)
    forget_folders()
    shutil.copy(paths.half_weights(GATED), paths.half_weights(DENSE))
    with pytest.raises(LayerpruneError, match="rounded from other weights than those in the run's record"):
        store.half_weights(store.stored(DENSE))
    assert len(errors()) == 1


def test_rounded_weights_of_a_record_that_was_replaced_are_no_damage_and_not_taken_for_the_new_one_s(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine, which made a parent again: its children in the store keep the old record there."""
    pack(always)
    made = store.find(DENSE)
    changed = made.model_copy(
        update={"test_accuracy": 0.5, "files": made.files.model_copy(update={"weights": "0" * 64})}
    )
    record.write(paths.record(DENSE), changed)
    paths.weights(DENSE).unlink()
    list(packing.pack("study", ["digits"], False))
    forget_folders()
    assert store.stored(DENSE).test_accuracy == 0.5 and len(store.all_stored(DENSE)) == 2
    assert store.half_weights(store.stored(DENSE)) is None and errors() == []
    status, _, err = command(capsys, monkeypatch, *evaluate_words("dense"))
    assert status == 2 and "no weights" in err


# --- what this repository ships -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    if not listed:
        pytest.skip(f"{REPOSITORY} is not a checkout: sizes of tracked files, and the stored weights, go unchecked")
    return [path for name in listed.split("\0")[:-1] if (path := REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def shipped(tracked: list[Path]) -> list[Path]:
    return [path for path in tracked if path.relative_to(REPOSITORY).match("results/*/*/weights/*")]


def test_the_tracked_files_take_less_than_20_mb_and_the_weights_among_them_what_is_allowed(
    tracked: list[Path], shipped: list[Path]
) -> None:
    assert sum(path.stat().st_size for path in tracked) < 20_000_000
    assert 0 < sum(path.stat().st_size for path in shipped) <= packing.MOST_BYTES


def test_the_weights_of_this_repository_are_whole_and_one_seed_of_each_network(
    shipped: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    names = [path.relative_to(REPOSITORY).parts for path in shipped]
    found = set()
    for _, preset, dataset, _, name in names:
        arch, method, variant, seed = name.split(".")[:4]
        made = store.stored(RunKey(preset, dataset, arch, method, variant, int(seed.removeprefix("seed"))))
        stored = paths.stored_weights(made.key)
        if stored.is_file():
            store.read_checked(stored, made.files.weights)
        else:
            assert store.half_weights(made) == paths.half_weights(made.key)
        found.add((preset, dataset, arch, method))
    assert len(found) == len(names) > 0
