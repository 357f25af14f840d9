"""What a stranger may have put in place of the suite's own files: one line that names the file, bounded memory."""

import json
import lzma
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Say
from test_bad_input import PRESET, run_key, words, write_preset

from layerprune.core.networks import storage
from layerprune.errors import LayerpruneError
from layerprune.suite import config, half_precision, packing, store
from layerprune.suite import run as running
from layerprune.system import files, paths

GIGABYTE = 10**9
KEY = run_key("dense")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose dense run lies in its folder and in the store."""
    folder = tmp_path_factory.mktemp("finished")
    write_preset(folder, PRESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        running.run(KEY, "cpu", 1, lambda *_: None, lambda line: None)
        list(packing.pack("study", ["digits"], weights=True))
        half = half_precision.rounded(paths.weights(KEY).read_bytes(), KEY)
        files.write_atomically(paths.half_weights(KEY), lambda stream: stream.write(half))
    return folder


@pytest.fixture
def root(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


# --- what is put in a file's place ------------------------------------------------------------------------------------


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 * GIGABYTE)


def noise(path: Path) -> None:
    path.write_bytes(b"\xf1\x80noise" * 500)


INSTEAD = [os.mkfifo, device, Path.mkdir, sparse, noise]


def complaint(ask: Callable[[], object]) -> str:
    """The one line that is answered."""
    with pytest.raises(LayerpruneError) as raised:
        ask()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600
    return str(raised.value)


READERS = {
    "records": (lambda: paths.stored_records("study", "digits"), lambda: store.stored(KEY)),
    "arrays": (lambda: paths.stored_arrays("study", "digits"), lambda: store.stored(KEY)),
    "curves": (lambda: paths.stored_texts("study", "digits"), lambda: store.curves(KEY)),
    "stored weights": (lambda: paths.stored_weights(KEY), lambda: storage.read_weights(paths.stored_weights(KEY))),
    "rounded weights": (lambda: paths.half_weights(KEY), lambda: store.half_weights(store.stored(KEY))),
    "record": (lambda: paths.record(KEY), lambda: files.read_json(paths.record(KEY))),
    "architecture": (lambda: paths.arch(KEY), lambda: storage.load_without_weights(paths.arch(KEY))),
    "weights": (lambda: paths.weights(KEY), lambda: storage.read_weights(paths.weights(KEY))),
}
OF_FOLDERS = ("record", "architecture", "weights")


@pytest.mark.parametrize("instead", INSTEAD, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", READERS)
def test_what_lies_in_place_of_a_file_is_named(root: Path, name: str, instead: Callable) -> None:
    where, read = READERS[name]
    path = where()
    if name not in OF_FOLDERS:
        shutil.rmtree(paths.run_folder(KEY))
    path.unlink()
    instead(path)
    assert complaint(read).startswith(f"{path}: ")


def test_of_a_bomb_no_more_is_unpacked_than_the_store_may_hold(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = paths.stored_texts("study", "digits")
    path.write_bytes(lzma.compress(bytes(300_000_000), preset=0))
    monkeypatch.setattr(store, "LARGEST", 10_000_000)
    shutil.rmtree(paths.run_folder(KEY))
    tracemalloc.start()
    assert complaint(lambda: store.curves(KEY)) == f"{path}: damaged: holds more than 10,000,000 bytes"
    assert tracemalloc.get_traced_memory()[1] < 150_000_000
    tracemalloc.stop()


def test_texts_that_end_early_or_name_no_run_are_named(root: Path) -> None:
    path = paths.stored_arrays("study", "digits")
    whole = path.read_bytes()
    shutil.rmtree(paths.run_folder(KEY))
    path.write_bytes(whole[:-20])
    assert complaint(lambda: store.stored(KEY)) == f"{path}: damaged: ends too early"
    path.write_bytes(lzma.compress(b'{"runs": 1}\n'))
    assert complaint(lambda: store.stored(KEY)) == f"{path}: a line that names no run"


# --- weights that are named by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("instead", [os.mkfifo, device, Path.mkdir, sparse, noise], ids=lambda each: each.__name__)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_to_start_from_are_regular_files_of_a_bounded_size(
    root: Path, instead: Callable, suffix: str, say: Say
) -> None:
    path = root / f"own{suffix}"
    instead(path)
    status, said = say(*words(run_key("random")), "--weights", str(path))
    (line,) = said.splitlines()
    assert status == 2 and line.startswith(f"layerprune: error: {path}: ")


# --- descriptions of networks -----------------------------------------------------------------------------------------


def described(**head: object) -> dict:
    ends = {"stem": {"type": "identity"}, "head": {"type": "linear", "in": 4, "out": 2, "bias": True} | head}
    return {"arch": "lenet-300-100", "input_shape": [4], "sections": []} | ends


@pytest.mark.parametrize("size", [10**6, 10**12, 10**30, -1, 1.5, "4", None, [4]])
def test_a_network_of_no_sensible_size_is_refused_before_it_takes_memory(size: object) -> None:
    description = json.loads(json.dumps(described(**{"in": size, "out": 10**6})))
    assert complaint(lambda: storage.described(description, "arch.json")).startswith("arch.json: ")


def test_a_network_of_a_sensible_size_is_built() -> None:
    assert storage.described(described(), "arch.json").head.weight.device.type == "cpu"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../study", "/etc/study", "", ".", "..", "a/b", "study\n", "\udcff", "x" * 5000, "ñ"])
@pytest.mark.parametrize("load", [config.load_preset, config.load_campaign], ids=["preset", "campaign"])
def test_a_preset_and_a_campaign_have_names_and_no_paths(root: Path, load: Callable, name: str) -> None:
    assert "a name has letters, digits" in complaint(lambda: load(name))
