"""Mistakes and damage: one clear line on stderr that names file and key, exit status 2, nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import run_module, run_process
from data_helpers import TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, UNCHECKED, write_idx, write_mnist_like
from torch._inductor import config as inductor

from layerprune import cli
from layerprune.core.data import loading, mnist
from layerprune.core.data.dataset import DataSet, Split
from layerprune.core.networks import storage
from layerprune.suite import config
from layerprune.suite import run as running
from layerprune.system import paths
from layerprune.system.paths import RunKey

PRESET = """\
seeds: [0]
resources: {state_seconds: 0}
training: {duration: 1ep, batch_size: 128, lr: 0.05}
finetune: {duration: 1ep}
datasets:
  digits:
    archs: {lenet-300-100: {}}
    methods:
      dense: {}
      gated: {settings: {nu: 0.001}}
      stochastic-depth: {settings: {keep: 2}}
      random: {settings: {keep: 1}}
      by-index: {settings: {keep_list: [1, 0]}}
  mnist:
    archs: {lenet-300-100: {}}
    methods: {dense: {}}
data: {download: false}
"""


def run_key(method: str, dataset: str = "digits") -> RunKey:
    return RunKey("study", dataset, "lenet-300-100", method, "default", 0)


def words(key: RunKey) -> list[str]:
    """The command line of a run."""
    names = ("preset", "dataset", "arch", "method", "variant", "seed")
    return ["run", *(word for name in names for word in (f"--{name}", str(getattr(key, name))))]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    write_preset(tmp_path, PRESET)
    return tmp_path


def write_preset(root: Path, text: str) -> Path:
    path = root / "config" / "study.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


Complain = Callable[..., str]


@pytest.fixture
def complain(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Complain:
    """Run the command line, which must fail; return its one line. Only records that were there may be there."""

    def complain(*arguments: str) -> str:
        records = set(root.rglob("record.json"))
        monkeypatch.setattr(sys, "argv", ["layerprune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert stop.value.code == 2
        (line,) = printed.err.splitlines()
        assert line.startswith("layerprune: error: ") and printed.out == ""
        assert line.isprintable() and len(line) < 1300
        assert set(root.rglob("record.json")) == records
        assert not list(root.rglob("*.tmp"))
        return line

    return complain


# --- presets --------------------------------------------------------------------------------------------------

LR = "lr: 0.05"
BAD_PRESETS = {
    "unknown key": ("finetune:", "finetuning:", "finetuning: unknown key"),
    "unknown key deep inside": (LR, "lr: 0.05, speed: 2", "training.speed: unknown key"),
    "unknown method": ("dense: {}\n", "dens: {}\n", "datasets.digits.methods.dens: unknown method 'dens' (known: "),
    "unknown setting of a method": ("nu: 0.001", "mu: 0.001", "datasets.digits.methods.gated.settings.mu: unknown key"),
    "both prices": ("nu: 0.001", "nu: 1, log_gamma: 1", "gated.settings: give nu or log_gamma, not both"),
    "negative seed": ("seeds: [0]", "seeds: [-1]", "seeds.0: Input should be greater than or equal to 0, not -1"),
    "wrong type": ("batch_size: 128", "batch_size: many", "training.batch_size: Input should be a valid integer"),
    "wrong duration": ("duration: 1ep, b", "duration: 1, b", "training.duration: Input should be a valid string"),
    "no learning rate": (LR, "lr: 0", "training.lr: Input should be greater than 0, not 0"),
    "learning rate not a number": (LR, "lr: .nan", "training.lr: Input should be"),
    "infinite learning rate": (LR, "lr: .inf", "training.lr: Input should be a finite number"),
    "negative price": ("nu: 0.001", "nu: -1", "gated.settings.nu: Input should be greater than or equal to 0"),
    "unknown estimator": ("nu: 0.001", "estimator: guess", "gated.settings.estimator: Input should be 'two_sided'"),
    "keep is neither a number nor a rule": ("{keep: 1}", "{keep: most}", "methods.random.settings.keep"),
    "keep list with other numbers": ("[1, 0]", "[1, 2]", "methods.by-index.settings.keep_list.1: Input should be"),
    "key written twice": (
        LR,
        "lr: 0.05, lr: 0.1",
        'YAML: line 3: while constructing a mapping (line 3) found duplicate key "lr"',
    ),
    "number written twice": (
        PRESET,
        "1: a\n1: b\n",
        "line 2: while constructing a mapping (line 1) found duplicate",
    ),
    "mapping as a key": (
        PRESET,
        "? {a: 1}\n: 2\n",
        "not valid YAML: line 1: a key that is no text",
    ),
    "Python object": (PRESET, "a: !!python/object:os.system {}\n", "line 1: could not determine a constructor"),
    "malformed YAML": ("seeds: [0]", "seeds: [0", "not valid YAML: line 2: while parsing a flow sequence (line 1) exp"),
    "tab in YAML": ("seeds: [0]", "\tseeds: [0]", "not valid YAML: line 1: while scanning for the next token found"),
    "no mapping": (PRESET, "- 1\n", "a preset must be a mapping of keys"),
    "empty": (PRESET, "", "a preset must be a mapping of keys"),
}


@pytest.mark.parametrize("mistake", BAD_PRESETS)
def test_a_mistake_in_a_preset_is_named_with_file_and_key(root: Path, complain: Complain, mistake: str) -> None:
    right, wrong, expected = BAD_PRESETS[mistake]
    assert PRESET.count(right) == 1
    path = write_preset(root, PRESET.replace(right, wrong))
    line = complain(*words(run_key("dense")))
    assert str(path) in line and expected in line


def test_a_number_in_a_preset_may_be_written_without_a_point(root: Path) -> None:
    """YAML 1.1 takes 5e-2 for text, 012 for ten and `off` for false."""
    write_preset(root, PRESET.replace(LR, "lr: 5e-2").replace("seeds: [0]", "description: off\nseeds: [012]"))
    preset = config.load_preset("study")
    assert (preset.training.lr, preset.seeds, preset.description) == (0.05, (12,), "off")


def test_a_preset_that_is_not_text_is_named(root: Path, complain: Complain) -> None:
    path = root / "config" / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00seeds")
    assert f"{path}: not valid YAML" in complain(*words(run_key("dense")))


NOT_IN_PRESET = {
    "preset": ("none.yaml: no such preset (known: study)"),
    "dataset": ("study.yaml: datasets: 'none' is not in this preset (has: digits, mnist)"),
    "arch": ("study.yaml: datasets.digits.archs: 'none' is not in this preset (has: lenet-300-100)"),
    "method": ("study.yaml: datasets.digits.methods: 'none' is not run on lenet-300-100 (has: dense, "),
    "variant": ("study.yaml: datasets.digits.methods.dense.variants: no 'none' (has: default)"),
}


@pytest.mark.parametrize("option", NOT_IN_PRESET)
def test_what_the_preset_does_not_have_is_named(complain: Complain, option: str) -> None:
    assert NOT_IN_PRESET[option] in complain(*words(run_key("dense")), f"--{option}", "none")


@pytest.mark.parametrize("arch", ["lenet-6", "mlp-residual", "mlp-residual-0", "mlp-residual-x", "vgg"])
def test_an_architecture_that_nobody_wrote_is_named(root: Path, complain: Complain, arch: str) -> None:
    write_preset(root, PRESET.replace("lenet-300-100", arch))
    assert arch in complain(*words(run_key("dense")), "--arch", arch)


def test_a_dataset_that_nobody_wrote_is_named(root: Path, complain: Complain) -> None:
    write_preset(root, PRESET.replace("digits:", "numerals:"))
    assert "datasets.numerals: unknown data set (known: digits, mnist" in complain(*words(run_key("dense", "numerals")))


@pytest.mark.parametrize("method", ["stochastic-depth", "random"])
def test_more_sections_to_keep_than_there_are(root: Path, complain: Complain, made: None, method: str) -> None:
    write_preset(root, PRESET.replace("keep: 2", "keep: 3").replace("keep: 1", "keep: 3"))
    assert "settings.keep: 3 sections requested, lenet-300-100 has 2" in complain(*words(run_key(method)))


def test_a_keep_list_of_the_wrong_length(root: Path, complain: Complain, made: None) -> None:
    write_preset(root, PRESET.replace("[1, 0]", "[1, 0, 1]"))
    assert "keep_list: has 3 entries, lenet-300-100 has 2 sections" in complain(*words(run_key("by-index")))


# --- the command line -----------------------------------------------------------------------------------------

BAD_WORDS = {
    "unknown option": (["plan", "--speed", "2"], "No such option: --speed"),
    "unknown command": (["train"], "No such command 'train'"),
    "missing option": (["run", "--dataset", "digits"], "Missing option '--arch'"),
    "not a number": ([*words(run_key("dense")), "--seed", "one"], "'--seed'"),
    "negative seed": ([*words(run_key("dense")), "--seed", "-1"], "--seed: must be 0 or more, not -1"),
    "no threads": ([*words(run_key("dense")), "--threads", "0"], "--threads: must be 1 or more, at most 4096, not 0"),
    "threads of no machine": (
        [*words(run_key("dense")), "--threads", "9" * 30],
        "--threads: must be 1 or more, at most",
    ),
    "threads to measure with": (["latency", "nowhere", "--threads", "9" * 30], "'--threads'"),
    "measurements for ever": (["latency", "nowhere", "--repeats", "9" * 30], "'--repeats'"),
    "a batch beyond memory": (["latency", "nowhere", "--batch", "9" * 30], "'--batch'"),
    "a name that moves the cursor": (["show", "\x1b[2J\udcff"], "\\x1b[2J\\udcff: no such run folder"),
    "a name of pages": (["show", "x" * 5000], "xxx"),
    "unknown device": ([*words(run_key("dense")), "--device", "abacus"], "device: 'abacus' is not"),
    "unsupported device": ([*words(run_key("dense")), "--device", "meta"], "device: 'meta' is not"),
    "too large a seed": ([*words(run_key("dense")), "--seed", str(2**40)], "seed: Input should be less than"),
    "no such run": (["show", "nowhere"], "nowhere: no such run folder"),
    "tables of nothing": (
        ["tables", "--preset", "study", "--dataset", "cats"],
        "--dataset: 'cats' is not in preset study",
    ),
}


@pytest.mark.parametrize("mistake", BAD_WORDS)
def test_a_mistake_on_the_command_line_is_named(complain: Complain, mistake: str) -> None:
    arguments, expected = BAD_WORDS[mistake]
    assert expected in complain(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_an_absent_gpu_is_named(complain: Complain) -> None:
    assert "device: 'cuda' is not there (0 GPUs found)" in complain(*words(run_key("dense")), "--device", "cuda")


def test_an_engine_that_cannot_compile_is_named_before_anything_is_trained(root: Path, complain: Complain) -> None:
    write_preset(root, PRESET.replace("lr: 0.05}", "lr: 0.05, engine: compiled}"))
    with inductor.patch({"cpp.cxx": ("/absent/g++",), "force_disable_caches": True}):
        line = complain(*words(run_key("dense")), "--device", "cpu")
    assert "training.engine: compiled does not work here" in line and "/absent/g++" in line and "use eager" in line


@pytest.mark.parametrize("minutes", ["nan", "inf", "1e308", "-1", "0"])
def test_a_campaign_lasts_as_long_as_something_can(root: Path, complain: Complain, minutes: str) -> None:
    (root / "config" / "campaigns").mkdir()
    (root / "config" / "campaigns" / "night.yaml").write_text(
        "preset: study\nruns: [{dataset: digits, arch: lenet-300-100, method: [dense], seeds: 0}]\n"
    )
    assert "--minutes: " in complain("campaign", "night", f"--minutes={minutes}")


@pytest.mark.parametrize("lanes", ["0", "99999999999", "\u0663", "-1", ""])
def test_lanes_are_a_number_that_a_process_can_have(root: Path, complain: Complain, lanes: str) -> None:
    (root / "config" / "campaigns").mkdir()
    (root / "config" / "campaigns" / "night.yaml").write_text(
        "preset: study\nruns: [{dataset: digits, arch: lenet-300-100, method: [dense], seeds: 0}]\n"
    )
    assert "--lanes: " in complain("campaign", "night", "--minutes", "1", f"--lanes={lanes}")


def test_what_nobody_expected_is_one_line_too_and_where_it_happened_is_kept(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    monkeypatch.setattr(config, "load_preset", lambda name: {}["no\nsuch"])
    monkeypatch.setattr(sys, "argv", ["layerprune", "plan"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 70 and "unexpected KeyError: 'no\\nsuch'; its traceback is in " in line
    assert "load_preset" in Path(line.split(" is in ")[1]).read_text()


def test_a_process_prints_the_line_alone(root: Path) -> None:
    done = run_process([sys.executable, "-m", "layerprune", "plan", "--preset", "none"], cwd=root)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == f"layerprune: error: {root}/config/none.yaml: no such preset (known: study)\n"


# --- data -----------------------------------------------------------------------------------------------------


def test_a_missing_data_folder_is_named_with_its_remedy(root: Path, complain: Complain) -> None:
    line = complain(*words(run_key("dense", "mnist")))
    assert f"{root}/data: no such data folder for mnist" in line and "LAYERPRUNE_DATA" in line
    assert f"{root}/data" in complain("stage", "mnist", "--preset", "study")


def damage_nothing_but_bytes(folder: Path) -> Path:
    """Images of the right sizes that are not MNIST's."""
    return folder / TRAIN_IMAGES


def truncate(folder: Path) -> Path:
    path = folder / TRAIN_IMAGES
    path.write_bytes(path.read_bytes()[:-100])
    return path


def delete_labels(folder: Path) -> Path:
    (folder / TEST_LABELS).unlink()
    return folder.parent


@pytest.mark.parametrize("damage", [damage_nothing_but_bytes, truncate, delete_labels])
def test_damaged_data_are_named(root: Path, complain: Complain, damage: Callable[[Path], Path]) -> None:
    path = damage(write_mnist_like(root / "data" / "mnist"))
    assert str(path) in complain(*words(run_key("dense", "mnist")))


def test_a_label_out_of_range_is_named(root: Path, complain: Complain, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist_like(root / "data" / "mnist")
    path = write_idx(folder / TRAIN_LABELS, torch.arange(120).numpy() % 11)
    monkeypatch.setattr(loading, "loader_of", lambda name: lambda root: mnist.load(root, UNCHECKED))
    assert f"{path}: label 10 at position 10" in complain(*words(run_key("dense", "mnist")))


def test_images_of_0_to_1_are_refused(root: Path, complain: Complain, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist_like(root / "data" / "mnist")

    def floats(root: Path) -> DataSet:
        data = mnist.load(root, UNCHECKED)
        return replace(data, train=Split(data.train.images / 255, data.train.labels))

    monkeypatch.setattr(loading, "loader_of", lambda name: floats)
    line = complain(*words(run_key("dense", "mnist")))
    assert "data set mnist: train: images are float32 [N, 1, 28, 28] instead of uint8 [N, 1, 28, 28]" in line


def test_altered_data_stop_the_staging_too(root: Path, complain: Complain) -> None:
    write_mnist_like(root / "data" / "mnist")
    assert TRAIN_IMAGES in complain("stage", "mnist", "--preset", "study")
    assert not paths.data_manifest("study", "mnist").exists()


# --- files of earlier runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of dense, on which the others build."""
    folder = tmp_path_factory.mktemp("finished")
    write_preset(folder, PRESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        running.run(run_key("dense"), "cpu", 1, lambda done, total, text: None, lambda line: None)
    return folder


def test_a_preset_edited_during_a_run_neither_spoils_nor_renames_it(root: Path) -> None:
    planned = config.resolve(config.load_preset("study"), run_key("dense")).digest()

    def edit(done: int, total: int, text: str) -> None:
        paths.preset_file("study").write_text("no_such_key: 1\n")

    made = running.run(run_key("dense"), "cpu", 1, edit, lambda line: None)
    assert (made.status, made.provenance.config_digest) == ("ok", planned)


@pytest.fixture
def made(root: Path, finished: Path) -> None:
    """The dense run is there."""
    shutil.copytree(finished / "results", root / "results")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def noise(path: Path) -> None:
    path.write_bytes(b"\x80" * 5000)


def other_content(path: Path) -> None:
    torch.save([1, 2, 3], path)


def other_architecture(path: Path) -> None:
    safetensors.torch.save_file({"stem.weight": torch.zeros(3)}, path)


def other_sizes(path: Path) -> None:
    state = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: torch.zeros(*value.shape, 1) for name, value in state.items()}, path)


@pytest.mark.parametrize("damage", [cut, noise, other_content, other_architecture, other_sizes])
def test_weights_that_are_not_the_records_are_named(complain: Complain, made: None, damage: Callable) -> None:
    path = paths.weights(run_key("dense"))
    damage(path)
    assert f"{path}: damaged or altered" in complain(*words(run_key("random")))


@pytest.mark.parametrize("damage", [cut, noise, other_content])
def test_weights_that_cannot_be_read_are_named(complain: Complain, made: None, damage: Callable) -> None:
    """In a folder without a record, where nothing says what they should be."""
    paths.record(run_key("dense")).unlink()
    path = paths.weights(run_key("dense"))
    damage(path)
    assert f"{path}: corrupt or not a file of weights" in complain("export", str(path.parent))


@pytest.mark.parametrize("damage", [other_architecture, other_sizes])
def test_weights_of_another_architecture_are_called_so(complain: Complain, made: None, damage: Callable) -> None:
    paths.record(run_key("dense")).unlink()
    path = paths.weights(run_key("dense"))
    damage(path)
    assert f"{path}: weights of another architecture than lenet-300-100" in complain("export", str(path.parent))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"arch": 1}', '{"sections": 3, "stem": {"type": "pool"}}'])
def test_a_damaged_description_of_a_network_is_named(complain: Complain, made: None, text: str) -> None:
    path = paths.arch(run_key("dense"))
    path.write_text(text)
    assert f"{path}: " in complain(*words(run_key("random")))
    assert f"{path}: " in complain("show", str(path.parent))


@pytest.mark.parametrize("text", ["", "{}", '{"seed": "none"}', "[1]", "\x00"])
def test_a_damaged_record_of_a_parent_is_named(complain: Complain, made: None, text: str) -> None:
    path = paths.record(run_key("dense"))
    path.write_text(text)
    assert f"{path}: " in complain(*words(run_key("random")))


def test_a_wrong_field_of_a_record_is_named(complain: Complain, made: None) -> None:
    path = paths.record(run_key("dense"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"macs": -1}))
    assert f"{path}: macs: " in complain(*words(run_key("random")))


@pytest.mark.parametrize("damage", [noise, other_content], ids=["noise", "other content"])
def test_a_damaged_state_is_named_with_its_remedy(root: Path, damage: Callable) -> None:
    path = paths.state(run_key("dense"))
    path.parent.mkdir(parents=True)
    damage(path)
    done = run_module("layerprune", *words(run_key("dense")), cwd=root)
    (line,) = done.stderr.splitlines()
    assert done.code == 2 and f"{path}: " in line and "delete it to start this run over" in line
    assert not paths.record(run_key("dense")).exists()


# --- disks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["results", "state"])
def test_a_file_where_a_folder_should_be(root: Path, complain: Complain, name: str) -> None:
    (root / name).write_text("")
    line = complain(*words(run_key("dense")))
    assert f"{root}/{name}/study" in line and "cannot write" in line


@pytest.fixture
def small_disk() -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory, with the options given; skips where that is forbidden."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as folder:

        def mount(options: str) -> Path:
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")
            return Path(folder)

        try:
            yield mount
        finally:
            subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("name", ["results", "state"])
def test_a_full_disk_is_said_and_a_rerun_with_room_succeeds(
    root: Path, complain: Complain, small_disk: Callable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    disk = small_disk("size=256k")
    (root / name).symlink_to(disk)
    line = complain(*words(run_key("dense")))
    assert str(root / name) in line and line.endswith("cannot write: no space left on the disk")
    assert not [path.name for path in disk.rglob("*") if path.is_file() and path.name != "lock"]
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    running.run(run_key("dense"), "cpu", 1, lambda done, total, text: None, lambda line: None)
    assert paths.record(run_key("dense")).exists()


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
@pytest.mark.parametrize("name", ["results", "state"])
def test_a_read_only_folder_is_said_before_training(
    root: Path, complain: Complain, small_disk: Callable, name: str
) -> None:
    (root / name).symlink_to(small_disk("ro"))
    line = complain(*words(run_key("dense")))
    assert str(root / name) in line and "ead-only" in line


def forbid_large_files() -> None:
    """Files of at most 200 kB; without the signal, writing more fails like a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_a_file_over_the_limit_is_said_and_a_rerun_succeeds(root: Path) -> None:
    command = [sys.executable, "-m", "layerprune", *words(run_key("dense"))]
    done = run_process(command, cwd=root, preexec_fn=forbid_large_files)
    (line,) = done.stderr.splitlines()
    assert done.code == 2 and line.endswith(".pt: cannot write: the file would exceed the size limit")
    assert os.listdir(paths.run_folder(run_key("dense"))) == []
    again = run_module("layerprune", *words(run_key("dense")), cwd=root)
    assert (again.code, again.stderr) == (0, "")
    assert storage.load(paths.arch(run_key("dense")), paths.weights(run_key("dense"))).arch == "lenet-300-100"
