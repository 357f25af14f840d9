"""Energy comes from the machine's counters or is absent; records and tables without it are what they were."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import made_up_runs as made_up
import pytest
import torch
from test_bad_input import PRESET, run_key, write_preset

from layerprune.analysis import frames, tables
from layerprune.suite import record, store
from layerprune.suite import run as running
from layerprune.suite.run import measure
from layerprune.system import energy, files, paths

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
RANGE = 65_532_610_987


class Machine:
    """Made-up counters of a machine, in microjoules and in hundredths of a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for place, name in enumerate(("package-0", "package-1", "dram", "core", "psys")):
            self.set(place, 1000, name)
        self.busy(0)

    def set(self, place: int, microjoules: int, name: str | None = None) -> None:
        zone = self.folder / "powercap" / f"intel-rapl:{place}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "energy_uj").write_text(f"{microjoules}\n")
        if name is not None:
            (zone / "name").write_text(f"{name}\n")
            (zone / "max_energy_range_uj").write_text(f"{RANGE}\n")

    def busy(self, ticks: int) -> None:
        (self.folder / "stat").write_text(f"cpu  {ticks} 0 0 999999 999 0 0 0 0 0\ncpu0 1 2 3 4\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "machine")
    monkeypatch.setattr(energy, "POWERCAP", made.folder / "powercap")
    monkeypatch.setattr(energy, "CPU_TIMES", made.folder / "stat")
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    return made


def own_seconds(monkeypatch: pytest.MonkeyPatch, *readings: float) -> None:
    told = iter(readings)
    monkeypatch.setattr(energy, "_own_seconds", lambda: next(told))


def test_a_process_gets_its_share_of_packages_and_memory(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    own_seconds(monkeypatch, 2.0, 5.0)
    with energy.metered(CPU, alone=False) as meter:
        for place, joules in enumerate((70, 20, 10, 500, 800)):
            machine.set(place, 1000 + joules * 10**6)
        machine.busy(1200)
    assert meter.joules == pytest.approx(100 * 3 / 12)


def test_a_counter_that_began_again_is_followed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(energy, "_own_seconds", lambda: time.monotonic() * 1e6)  # a share of all of it
    machine.busy(0)
    with energy.metered(CPU, alone=False) as meter:
        machine.busy(100)
        for microjoules in (RANGE - 500, 500, RANGE - 500, 500):
            machine.set(0, microjoules)
            time.sleep(0.3)
    assert meter.joules == pytest.approx(2 * RANGE / 1e6, rel=1e-6)


@pytest.mark.parametrize("kind", ["absent", "forbidden", "no number", "idle", "gone meanwhile"])
def test_what_cannot_be_told_is_absent(machine: Machine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = energy.POWERCAP / "intel-rapl:0" / "energy_uj"
    if kind == "absent":
        shutil.rmtree(energy.POWERCAP)
    if kind == "forbidden":
        counter.unlink()
        counter.mkdir()  # reading it is an OSError for root too
    if kind == "no number":
        counter.write_text("many\n")
    with energy.metered(CPU, alone=True) as meter:
        if kind == "gone meanwhile":
            shutil.rmtree(energy.POWERCAP)
    assert meter.joules is None


# --- GPU --------------------------------------------------------------------------------------------------------------

BOARD = """
#include <string.h>
static unsigned long long spent = 5000000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *name, void **board) { *board = &spent; return strcmp(name, "GPU-1234") != 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *board, unsigned long long *told) {
    *told = *(unsigned long long *)board;
    spent += 7500;
    return 0;
}
"""


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A library in place of NVIDIA's, which counts 7.5 J between two questions; gives a GPU's name."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "nvml.c").write_text(BOARD)
    library = tmp_path / "nvml.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    monkeypatch.setattr(energy, "NVML", str(library))
    return lambda uuid: monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(uuid=uuid))


def test_a_process_alone_on_a_gpu_gets_what_the_board_counts(nvml: Callable[[str], None]) -> None:
    nvml("1234")
    with energy.metered(GPU, alone=True) as meter:
        pass
    assert meter.joules == 7.5
    with energy.metered(GPU, alone=False) as meter:
        pass
    assert meter.joules is None


def test_a_gpu_that_counts_nothing_has_no_energy(nvml: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvml("4321")
    with energy.metered(GPU, alone=True) as meter:
        pass
    assert meter.joules is None
    nvml("1234")
    monkeypatch.setattr(energy, "NVML", "libabsent.so.1")
    with energy.metered(GPU, alone=True) as meter:
        pass
    assert meter.joules is None


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    write_preset(tmp_path, PRESET)
    return tmp_path


def make(method: str) -> record.Record:
    return running.run(run_key(method), "cpu", 1, lambda *_: None, lambda line: None)


def test_a_run_notes_its_energy_and_the_dense_networks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy.Meter, "joules", 40.0)
    monkeypatch.setattr(energy, "POWERCAP", root)  # counts nothing, so that the number stays
    dense = make("dense")
    assert (dense.energy_joules, dense.energy_joules_own) == (40, 40)
    later = make("random")
    assert (later.energy_joules, later.energy_joules_own) == (80, 40)
    assert store.find(run_key("random")) == later


def test_without_a_counter_a_record_has_no_word_of_energy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", root)
    dense = make("dense")
    assert "energy" not in paths.record(run_key("dense")).read_text()
    monkeypatch.setattr(energy.Meter, "joules", 40.0)
    later = make("random")
    assert (later.energy_joules, later.energy_joules_own) == (None, 40)
    assert "energy_joules" not in files.read_json(paths.record(run_key("random"))).keys() - {"energy_joules_own"}
    assert dense.digest() == dense.model_copy(update={"energy_joules": 1.0}).digest()


@pytest.mark.parametrize("changes", [{}, {"lanes": 2}, {"size": 2}, {"resumed": 1}, {"joules": None}])
def test_energy_that_others_had_a_part_in_or_of_which_a_part_is_lost_is_left_out(changes: dict) -> None:
    task = SimpleNamespace(lanes=changes.get("lanes"), group=SimpleNamespace(size=changes.get("size", 1)), parents={})
    trained = SimpleNamespace(progress=SimpleNamespace(resumed=changes.get("resumed", 0)))
    told = measure.energy_of(task, trained, changes.get("joules", 3.0))
    assert told == ({} if changes else {"energy_joules": 3.0, "energy_joules_own": 3.0})


# --- tables -----------------------------------------------------------------------------------------------------------


def test_tables_have_energy_where_some_run_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    keys = made_up.write_study(made_up.preset({"lenet5": {}}, ["dense", "gated"], (0, 1)))

    def written() -> dict[str, str]:
        found = tables.write(frames.read_study(made_up.PRESET, made_up.DATASET))
        return {f"{path.parent.name}/{path.name}": path.read_text() for path in found}

    assert not [name for name, text in written().items() if "energy" in text.lower()]
    for key in keys:
        if key.method == "gated":
            made_up.change(key, energy_joules=1000.0 * (key.seed + 1))
    after = written()
    header, rows = (after["tables/mnist.csv"].splitlines()[place] for place in (0, slice(1, None)))
    assert header.endswith(",energy (kJ)") and [row.rpartition(",")[2] for row in rows] == ["–", "1.5"]
    assert "Energy: an estimate" in after["tables/mnist.md"] and "energy_joules" in after["mnist/runs.csv"]
