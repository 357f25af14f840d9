"""Planted faults: golden values notice each of them. The whole table takes minutes: make test ARGS='-m mutation'."""

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from golden import cases
from mutation.table import EXEMPT, FAULTS, Fault

import layerprune

PACKAGE = Path(layerprune.__file__).parent
TESTS = Path(__file__).parent
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


def golden_tests(fault: Fault, folder: Path) -> subprocess.CompletedProcess:
    """The golden test of the fault's cases, with the faulty package."""
    names = [f"{TESTS}/test_golden.py::test_numbers_are_those_of_their_versions[{name}]" for name in fault.cases]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", *names]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)


def check(fault: Fault, folder: Path) -> None:
    done = golden_tests(fault, planted(fault, folder))
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert "numbers have changed, but no version" in done.stdout, done.stdout[-3000:]


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.quick], ids=lambda fault: fault.name)
def test_golden_values_notice(fault: Fault, tmp_path: Path) -> None:
    check(fault, tmp_path)


@pytest.mark.mutation
@pytest.mark.parametrize("fault", [each for each in FAULTS if not each.quick], ids=lambda fault: fault.name)
def test_golden_values_notice_the_others_too(fault: Fault, tmp_path: Path) -> None:
    check(fault, tmp_path)


def test_a_sound_package_passes(tmp_path: Path) -> None:
    harmless = Fault("a longer comment", '"""The learning rate', '"""  The learning rate', FAULTS[0].cases)
    assert golden_tests(harmless, planted(harmless, tmp_path)).returncode == 0


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
