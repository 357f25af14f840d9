"""Planted faults: golden values notice each of them. The whole table takes minutes: make test ARGS='-m mutation'."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from golden import cases
from golden.made_up import write_data
from mutation.table import EXEMPT, FAULTS, Fault

import layerprune

PACKAGE = Path(layerprune.__file__).parent
TESTS = Path(__file__).parent
NOTICED = "numbers have changed, but no version"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def file_of(fault: Fault) -> str:
    """The one file that holds the sound text, and that once."""
    found = [name for name, text in SOURCES.items() if fault.old in text and fault.inside in text]
    assert len(found) == 1, f"{fault.name}: its text stands in {found or 'no file'}"
    assert SOURCES[found[0]].count(fault.old) == 1, f"{fault.name}: its text stands more than once in {found[0]}"
    return found[0]


def planted(fault: Fault, folder: Path) -> Path:
    """A copy of the package with the fault, below `folder`."""
    copy = shutil.copytree(PACKAGE, folder / "layerprune", ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / file_of(fault)
    path.write_text(path.read_text().replace(fault.old, fault.new))
    return folder


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def golden_test(fault: Fault, folder: Path) -> subprocess.CompletedProcess:
    """The golden test of the fault's cases, with the faulty package."""
    names = [f"{TESTS}/test_golden.py::test_numbers_are_those_of_their_versions[{name}]" for name in fault.cases]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", *names]
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)


def tried(faults: list[Fault], folder: Path) -> dict[str, str]:
    """Name of a fault -> what its golden cases complain of."""
    trials = [(str(planted(fault, folder / str(place))), fault.cases) for place, fault in enumerate(faults)]
    (folder / "trials.json").write_text(json.dumps(trials))
    command = [sys.executable, str(TESTS / "mutation" / "trials.py"), str(folder / "trials.json")]
    data = str(write_data(folder / "data"))
    done = subprocess.run([*command, data], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return dict(zip([fault.name for fault in faults], map(json.loads, done.stdout.splitlines()), strict=True))


def unnoticed(faults: list[Fault], folder: Path) -> dict[str, str]:
    """Faults that change no number enough, and what was said of them."""
    return {name: told for name, told in tried(faults, folder).items() if NOTICED not in told}


def test_golden_values_notice_planted_faults(tmp_path: Path) -> None:
    assert unnoticed([fault for fault in FAULTS if fault.quick], tmp_path) == {}


@pytest.mark.mutation
def test_golden_values_notice_every_fault(tmp_path: Path) -> None:
    assert unnoticed([fault for fault in FAULTS if not fault.quick], tmp_path) == {}


def test_the_golden_test_fails_with_a_fault_and_passes_without(tmp_path: Path) -> None:
    harmless = Fault("a longer comment", '"""The learning rate', '"""  The learning rate', FAULTS[0].cases)
    sound = golden_test(harmless, planted(harmless, tmp_path / "sound"))
    assert sound.returncode == 0, sound.stdout
    faulty = golden_test(FAULTS[0], planted(FAULTS[0], tmp_path / "faulty"))
    assert faulty.returncode == 1 and NOTICED in faulty.stdout, faulty.stdout


# --- the table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    assert file_of(fault)
    assert set(fault.cases) <= set(cases.all_cases())


def test_faults_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1] == []


def has_code(text: str) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(text).body)


def test_every_file_of_core_has_a_fault_or_a_reason() -> None:
    core = {name for name, text in SOURCES.items() if name.startswith("core/") and has_code(text)}
    faulty = {file_of(fault) for fault in FAULTS}
    assert core - faulty - EXEMPT.keys() == set(), "plant a fault in these (tests/mutation/table.py)"
    assert EXEMPT.keys() & faulty == set()
    assert EXEMPT.keys() <= core
