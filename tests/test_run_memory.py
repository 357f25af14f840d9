"""A run's record says how much memory it took at most, where the system tells; others' parts are not charged to it.
Of runs that were made before, the first steps tell."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import REPOSITORY, run_process
from test_energy import make, root  # noqa: F401 -- a fixture

from bench import run_memory
from layerprune.suite import config
from layerprune.suite.run import measure
from layerprune.system import files, memory, paths

CPU = torch.device("cpu")
MEGABYTE = 2**20
HOLD = """
import torch
from layerprune.system import memory
held = torch.ones({before} * 2**18)
del held
memory.begin(torch.device("cpu"))
at_first = memory.largest()
held = torch.ones({after} * 2**18)
print((memory.largest() - at_first) // 2**20)
"""


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="no /proc of Linux")
def test_the_largest_is_counted_from_the_beginning_on() -> None:
    done = run_process([sys.executable, "-c", HOLD.format(before=400, after=200)])
    assert done.code == 0, done.stderr
    assert 190 <= int(done.stdout) <= 210


def test_a_system_that_tells_nothing_is_asked_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    memory.begin(CPU)
    assert memory.largest() is None and memory.largest_on(CPU) is None
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n")
    assert memory.largest() == 2 * MEGABYTE


def test_a_record_has_the_memory_of_its_run_and_is_the_same_run_without_it(root: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(memory, "largest", lambda: 300 * MEGABYTE)
    made = make("dense")
    assert (made.memory_bytes, made.gpu_memory_bytes) == (300 * MEGABYTE, None)
    assert made.digest() == made.model_copy(update={"memory_bytes": 1, "gpu_memory_bytes": 2}).digest()
    written = next(root.rglob("record.json"))
    assert files.read_json(written)["memory_bytes"] == 300 * MEGABYTE and "gpu_memory" not in written.read_text()
    paths.record(made.key).unlink()
    monkeypatch.setattr(memory, "largest", lambda: None)
    assert "memory" not in make("dense").sealed().model_dump_json()


@pytest.mark.parametrize("changes", [{"lanes": 2}, {"size": 2}])
def test_memory_that_others_had_a_part_in_is_left_out(changes: dict) -> None:
    task = SimpleNamespace(lanes=changes.get("lanes"), group=SimpleNamespace(size=changes.get("size", 1)), device=CPU)
    assert measure.memory_of(task) == {}


# --- of first steps ---------------------------------------------------------------------------------------------------


def test_a_shortened_preset_has_the_same_runs_and_trains_for_few_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (REPOSITORY / "config" / "laptop.yaml").read_text(encoding="utf-8")
    planned = config.plan(config.read_preset(REPOSITORY / "config" / "laptop.yaml"), "laptop")
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    files.write_text(paths.preset_file("laptop"), run_memory.shortened(told))
    preset = config.load_preset("laptop")
    assert config.plan(preset, "laptop") == planned
    resolved = [config.resolve(preset, key) for key in planned if key.seed == 0]
    assert {each.training.duration for each in resolved} == {"40it"} == {each.finetune.duration for each in resolved}
    assert {each.settings.get("warmup") for each in resolved if each.method == "gated"} == {"4it"}


def test_a_run_is_measured_after_what_it_starts_from_and_with_its_first_seed() -> None:
    preset = config.read_preset(REPOSITORY / "config" / "laptop.yaml")
    found = run_memory.chosen(preset, "laptop", ["mnist/lenet5/scratch-b/default", "mnist/lenet5/magnitude/default"])
    assert [(key.method, key.seed) for key in found[:2]] in ([("dense", 0), ("gated", 0)], [("gated", 0), ("dense", 0)])
    assert {(key.method, key.seed) for key in found[2:]} == {("magnitude", 0), ("scratch-b", 0)}
