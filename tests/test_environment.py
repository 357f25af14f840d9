"""The locks, environment.yml and what they promise agree with one another."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

CONDA_MACHINE = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}


def requirements(path: Path) -> list[Requirement]:
    """The requirements of a pip file, without hashes and comments."""
    lines = (line.split(" \\")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "--hash"))]


@pytest.fixture
def locked(repository: Path) -> dict[str, str]:
    """Package -> pin of the lock, on the machine that environment.yml describes."""
    applicable = [
        each
        for each in requirements(repository / "requirements.lock")
        if each.marker is None or each.marker.evaluate(CONDA_MACHINE)
    ]
    return {canonicalize_name(each.name): str(each.specifier) for each in applicable}


@pytest.fixture
def conda(repository: Path) -> dict:
    return YAML(typ="safe", pure=True).load(repository / "environment.yml")


@pytest.fixture
def direct(repository: Path) -> set[str]:
    """The packages that requirements.in asks for."""
    return {canonicalize_name(each.name) for each in requirements(repository / "requirements.in")}


def pip_section(conda: dict) -> list[Requirement]:
    return [Requirement(line) for each in conda["dependencies"] if isinstance(each, dict) for line in each["pip"]]


def test_every_pin_of_the_conda_environment_is_the_locks(conda: dict, locked: dict[str, str]) -> None:
    pins = {canonicalize_name(each.name): str(each.specifier) for each in pip_section(conda)}
    assert pins == {name: locked[name] for name in pins}


def test_the_conda_environment_has_every_direct_dependency(conda: dict, direct: set[str]) -> None:
    assert {canonicalize_name(each.name) for each in pip_section(conda)} == direct


def test_the_conda_python_is_new_enough_for_the_package(conda: dict, repository: Path) -> None:
    python = next(each for each in conda["dependencies"] if str(each).startswith("python="))
    wanted = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={python.removeprefix('python=')}"


def test_every_dependency_of_the_package_is_locked_in_a_version_it_accepts(
    locked: dict[str, str], repository: Path
) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"]):
        pin = locked[canonicalize_name(needed.name)].removeprefix("==")
        assert needed.specifier.contains(pin), f"{needed} is locked at {pin}"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bootstrap.lock"])
def test_a_lock_has_hashes_and_names_no_host(name: str, repository: Path) -> None:
    text = (repository / name).read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text, flags=re.IGNORECASE)
    assert all("==" in entry.splitlines()[0] and "--hash=sha256:" in entry for entry in entries)


def test_the_bootstrap_lock_is_the_installer_of_the_lock(repository: Path) -> None:
    (installer,) = requirements(repository / "requirements-bootstrap.lock")
    bootstrap = (repository / "requirements-bootstrap.lock").read_text()
    assert installer.name == "uv"
    assert bootstrap.strip() in (repository / "requirements.lock").read_text()


def test_make_stops_with_one_line_when_python_is_too_old(repository: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "requirements-bootstrap.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    old_python = tmp_path / "python3.8"
    old_python.write_text("#!/bin/sh\nexit 1\n")
    old_python.chmod(0o755)
    done = subprocess.run(["make", "install", f"PYTHON={old_python}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("make")] == [
        next(line for line in done.stderr.splitlines() if "Python 3.11 or newer" in line)
    ]
    assert not (tmp_path / ".venv").exists()


def test_make_without_a_target_lists_every_target(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    listed = subprocess.run(["make", "--no-print-directory"], cwd=repository, capture_output=True, text=True).stdout
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert [line.split()[0] for line in listed.splitlines()] == phony.split()


def test_the_citation_names_the_paper_and_the_licence(repository: Path) -> None:
    citation = YAML(typ="safe", pure=True).load(repository / "CITATION.cff")
    paper = citation["preferred-citation"]
    assert citation["license"] == "MIT" and (repository / "LICENSE").read_text().startswith("MIT License")
    assert [author["family-names"] for author in paper["authors"]] == ["Guenter", "Sideris"]
    assert paper["identifiers"][0]["value"] == "arXiv:2406.04549"


def test_with_an_index_for_torch_all_that_torch_brings_along_comes_from_there(repository: Path) -> None:
    """What the Makefile leaves out of the lock: torch, torchvision, and what Linux's builds of them alone need."""
    (pattern,) = re.findall(r"^OF_TORCH := (.*)$", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    lock = (repository / "requirements.lock").read_text()
    entries = re.findall(r"^([\w.-]+)==[^ ]+( ; sys_platform == 'linux')?.*\n(?: .*\n)*", lock, flags=re.MULTILINE)
    left_out = {name for name, _ in entries if re.fullmatch(pattern, name)}
    of_linux = {name for name, marker in entries if marker and name.startswith(("nvidia", "cuda", "triton"))}
    assert of_linux and left_out == {"torch", "torchvision", *of_linux}
