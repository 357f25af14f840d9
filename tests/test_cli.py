"""The command line: what it explains, prints and makes, on a terminal and off it."""

import json
import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from conftest import Outcome, Say, run_module, run_process

from layerprune import cli
from layerprune.core import methods
from layerprune.core.settings import GatedSettings
from layerprune.suite import record
from layerprune.system import paths
from layerprune.system.paths import RunKey

FOUR_FILES = {"record.json", "curves.csv", "arch.json", "weights.safetensors"}
COMMANDS = typer.main.get_command(cli.app).commands

Command = Callable[..., tuple[str, str]]


def run_words(method: str) -> list[str]:
    return ["run", "--preset", "tiny", "--dataset", "digits", "--arch", "lenet-300-100", "--method", method]


def run_key(method: str) -> RunKey:
    return RunKey("tiny", "digits", "lenet-300-100", method, "default", 0)


@pytest.fixture
def command(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in this process, which must succeed; returns what it printed to stdout and stderr."""

    def command(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["layerprune", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return printed.out, printed.err

    return command


# --- help -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name: str) -> None:
    each = COMMANDS[name]
    assert len(each.help) > 20
    for parameter in each.params:
        assert len(parameter.help or "") > 10, parameter.name


def test_help_shows_the_explanations(command: Command) -> None:
    text, _ = command("run", "--help")
    for option in ("--preset", "--dataset", "--arch", "--method", "--variant", "--seed", "--device", "--threads"):
        assert option in text
    assert "Seed of initialisation" in text


def test_without_words_it_shows_its_commands(command: Command) -> None:
    text, _ = command()
    assert all(name in text for name in COMMANDS)


# --- run ------------------------------------------------------------------------------------------------------


def test_a_run_makes_four_files_and_is_quiet(command: Command) -> None:
    out, err = command(*run_words("dense"))
    assert err == ""
    assert {path.name for path in paths.run_folder(run_key("dense")).iterdir()} == FOUR_FILES
    made = record.read(paths.record(run_key("dense")))
    assert f"{100 * made.test_accuracy:.2f} % test accuracy, 2 of 2 sections left" in out


def test_a_second_run_does_nothing(command: Command) -> None:
    command(*run_words("dense"))
    before = {path: path.stat().st_mtime_ns for path in paths.run_folder(run_key("dense")).iterdir()}
    _, err = command(*run_words("dense"))
    assert err == f"{paths.record(run_key('dense'))}: up to date, status ok\n"
    assert {path: path.stat().st_mtime_ns for path in paths.run_folder(run_key("dense")).iterdir()} == before


def edit_preset(root: Path, old: str, new: str) -> None:
    path = root / "config" / "tiny.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_changed_science_setting_repeats_the_run(root: Path, command: Command) -> None:
    command(*run_words("dense"))
    edit_preset(root, "lr: 0.05", "lr: 0.04")
    _, err = command(*run_words("dense"))
    assert err == ""
    assert record.read(paths.record(run_key("dense"))).provenance.config["training"]["lr"] == 0.04


def test_a_changed_resource_or_description_does_not(root: Path, command: Command) -> None:
    command(*run_words("dense"))
    edit_preset(root, "data: {download: false}", "data: {download: true}\nresources: {threads: 2, device: cpu}")
    edit_preset(root, "description: the smallest", "description: a small")
    assert "up to date" in command(*run_words("dense"))[1]


def test_a_missing_file_repeats_the_run(command: Command) -> None:
    command(*run_words("dense"))
    weights = paths.weights(run_key("dense")).read_bytes()
    paths.weights(run_key("dense")).unlink()
    assert command(*run_words("dense"))[1] == ""
    assert paths.weights(run_key("dense")).read_bytes() == weights


def test_missing_parents_are_run_first_and_named(command: Command) -> None:
    _, err = command(*run_words("random"))
    child = run_key("random")
    assert err.splitlines() == [
        f"{child} starts from {run_key(parent)}, which is run first" for parent in ("dense", "gated")
    ]
    made = record.read(paths.record(child)).provenance.parents
    assert made == {
        str(run_key(each)): record.read(paths.record(run_key(each))).digest() for each in ("dense", "gated")
    }


def test_a_parent_that_changed_repeats_the_run(root: Path, command: Command) -> None:
    command(*run_words("magnitude"))
    edit_preset(root, "dense: {}", "dense: {training: {lr: 0.01}}")
    command(*run_words("dense"))
    assert "up to date" not in command(*run_words("magnitude"))[1]
    parents = record.read(paths.record(run_key("magnitude"))).provenance.parents
    assert parents[str(run_key("dense"))] == record.read(paths.record(run_key("dense"))).digest()


def test_a_diverged_run_has_a_record_and_its_child_failed(root: Path, command: Command) -> None:
    edit_preset(root, "lr: 0.05", "lr: 1.0e+6")
    edit_preset(root, "gated: #", "sss: {}\n      hard-concrete: {}\n      gated: #")
    for method in ("dense", "gated", "sss", "hard-concrete"):
        assert "diverged, no accuracy" in command(*run_words(method))[0]
        json.loads(paths.record(run_key(method)).read_text())
    assert "failed, no accuracy" in command(*run_words("magnitude"))[0]
    assert record.read(paths.record(run_key("magnitude"))).reason == "its parent run 'dense' has status diverged"


# --- the other commands ---------------------------------------------------------------------------------------


def numbers_of(line: str) -> list[int]:
    return [int(word.replace(",", "")) for word in re.findall(r"\d[\d,]*", line)]


def test_show_prints_every_part_with_its_macs(command: Command) -> None:
    command(*run_words("magnitude"))
    paths.weights(run_key("magnitude")).unlink()  # records are published without weights
    out, _ = command("show", str(paths.run_folder(run_key("magnitude"))))
    rows = {line.split()[1]: line for line in out.splitlines() if re.match(r"^[│|] (stem|fc1|fc2|head)", line)}
    assert list(rows) == ["stem", "fc1", "fc2", "head"]
    made = record.read(paths.record(run_key("magnitude")))
    assert sum(numbers_of(row.split("│")[4])[0] for row in rows.values()) == made.macs
    assert sum(numbers_of(row.split("│")[5])[0] for row in rows.values()) == made.params
    assert [("removed" in rows[name]) for name in ("fc1", "fc2")] == [not stays for stays in made.keep]
    assert f"{made.macs:,} MACs, {made.params:,} parameters, 1 of 2 sections left" in out


def test_a_runs_network_is_exported_for_elsewhere(command: Command, tmp_path: Path) -> None:
    import torch

    import layerprune
    from layerprune.core.networks import storage

    command(*run_words("magnitude"))
    folder = paths.run_folder(run_key("magnitude"))
    network = storage.load(folder / "arch.json", folder / "weights.safetensors").eval()
    x = torch.rand(3, *network.input_shape)
    out, _ = command("export", str(folder))
    torch.testing.assert_close(layerprune.load(Path(out.strip()))(x), network(x))
    out, _ = command("export", str(folder), "--format", "state-dict", "--output", str(tmp_path / "weights.safetensors"))
    again = storage.load(folder / "arch.json", Path(out.strip())).eval()
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)


def content(path: Path) -> str:
    """What a file is by what it holds."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            is_program = any(name.endswith("/archive_format") for name in parts.namelist())
        return "torch.export" if is_program else "torch"
    return "safetensors" if path.read_bytes()[8:9] == b"{" else "ONNX"


@pytest.fixture
def folder_of_a_run(tmp_path: Path) -> Path:
    """What `export` needs of a run's folder."""
    import torch

    from layerprune.core.networks import storage
    from layerprune.core.networks.build import build

    folder = tmp_path / "seed0"
    network = build("lenet-300-100", (1, 28, 28), 10, torch.Generator().manual_seed(0))
    storage.save(network, paths.arch_in(folder), paths.weights_in(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "form", "written"),
    [
        ("network.pt2", None, "torch.export"),
        ("network.onnx", None, "ONNX"),
        ("network.ONNX", None, "ONNX"),
        ("network.pt", None, "torch"),
        ("network.safetensors", None, "safetensors"),
        ("network", None, "torch.export"),
        ("network.v2", None, "torch.export"),
        ("network", "onnx", "ONNX"),
        ("network.v2", "state-dict", "torch"),
        ("network.pt2", "pt2", "torch.export"),
        (None, None, "torch.export"),
        (None, "state-dict", "torch"),
    ],
)
def test_the_name_of_an_exported_file_says_its_format(
    command: Command, folder_of_a_run: Path, name: str | None, form: str | None, written: str
) -> None:
    if written == "ONNX":
        pytest.importorskip("onnxscript")
    where = [] if name is None else ["--output", str(folder_of_a_run / name)]
    out, _ = command("export", str(folder_of_a_run), *where, *([] if form is None else ["--format", form]))
    assert content(Path(out.strip())) == written


@pytest.mark.parametrize(
    ("name", "form", "meant"),
    [
        ("network.onnx", "pt2", "onnx"),
        ("network.onnx", "state-dict", "onnx"),
        ("network.pt2", "onnx", "pt2"),
        ("network.pt", "pt2", "state-dict"),
        ("network.safetensors", "onnx", "state-dict"),
    ],
)
def test_an_exported_file_is_not_called_what_it_is_not(
    say: Say, folder_of_a_run: Path, name: str, form: str, meant: str
) -> None:
    path = folder_of_a_run / name
    status, said = say("export", str(folder_of_a_run), "--format", form, "--output", str(path))
    told = f"layerprune: error: --output: {path}: this name is for --format {meant}, not for {form}\n"
    assert (status, said, path.exists()) == (2, told, False)


def test_runs_that_end_within_an_epoch_are_found_sound(root: Path, command: Command) -> None:
    edit_preset(root, "duration: 2ep, batch_size: 128", "duration: 30it, batch_size: 32")
    edit_preset(root, "finetune: {duration: 1ep}", "finetune: {duration: 10it}")
    path = root / "config" / "tiny.yaml"
    path.write_text(re.sub(r"gated: #[^}]*}|random: {[^}]*}}", "", path.read_text(), flags=re.DOTALL))
    command(*run_words("magnitude"))
    assert record.read(paths.record(run_key("dense"))).epochs == 30 / 39
    assert command("verify", "--preset", "tiny")[0] == "every planned run exists and is up to date\n"


def test_plan_lists_the_runs_parents_first(command: Command) -> None:
    out, _ = command("plan", "--preset", "tiny")
    assert out.splitlines() == [str(run_key(method)) for method in ("dense", "gated", "magnitude", "random")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dataset", "nosuch"), "--dataset: 'nosuch' is not in preset tiny"),
        (("--dataset", "nosuch", "--claim", "C1"), "--dataset: 'nosuch' is not in preset tiny"),
        (("--claim", "C7"), "--claim: no run of preset tiny decides C7"),
    ],
    ids=str,
)
def test_a_plan_of_nothing_is_one_line(root: Path, words: tuple[str, ...], told: str) -> None:
    done = run_module("layerprune", "plan", "--preset", "tiny", *words, cwd=root)
    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr and done.stderr.count("\n") == 1


def test_methods_lists_all_with_their_settings(command: Command) -> None:
    out, _ = command("methods")
    for slug in methods.families():
        assert f"{slug}  (" in out
    for name, field in GatedSettings.model_fields.items():
        assert f"    {name} = {field.default!r}: {field.description}" in out


def test_stage_says_what_is_there(command: Command) -> None:
    out, err = command("stage", "digits", "--preset", "tiny")
    assert err == "" and "1237 training images" in out
    manifest = json.loads(paths.data_manifest("tiny", "digits").read_text())
    assert manifest["sizes"] == {"train": 1237, "validation": 200, "test": 360}


# --- as a process ---------------------------------------------------------------------------------------------


def test_the_module_and_the_script_are_one(root: Path) -> None:
    script = Path(sys.executable).with_name("layerprune")
    if not script.exists():
        pytest.skip("the script layerprune is not installed")
    words = ["plan", "--preset", "tiny"]
    by_module: Outcome = run_process([sys.executable, "-m", "layerprune", *words], cwd=root)
    assert by_module.code == 0 and by_module.stdout
    assert run_process([str(script), *words], cwd=root) == by_module


def test_a_reader_that_goes_away_is_no_error(root: Path) -> None:
    for reader in ("head -1", "true"):
        command = f"set -o pipefail; '{sys.executable}' -m layerprune methods | {reader}"
        done = run_process(["bash", "-c", command], cwd=root)
        assert (done.code, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == (reader == "head -1")


def test_without_a_place_for_its_words_a_command_works(root: Path) -> None:
    done = run_process(["bash", "-c", f"'{sys.executable}' -m layerprune methods >&-"], cwd=root)
    assert (done.code, done.stderr) == (0, "")


def test_a_terminal_sees_progress(root: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "layerprune", *run_words("dense")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = read_all(ours)
    assert process.wait(60) == 0
    assert str(run_key("dense")) in shown
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r") for line in re.split(r"[\r\n]+", shown)]
    assert max(len(line) for line in lines) <= 80
    last = [line for line in lines if line.startswith("epoch")][-1]
    assert re.fullmatch(r"epoch (\d+) of \1  loss [\d.]+  val [\d.]+ %  sections \d+ ━+ \d:\d\d:\d\d", last), last


def read_all(descriptor: int) -> str:
    """What a pseudo-terminal shows until its other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            part = b""
        if not part:
            os.close(descriptor)
            return b"".join(parts).decode(errors="replace")
        parts.append(part)
