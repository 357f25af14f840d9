"""Hosted CI and the container pin what they take from elsewhere, and run what is there."""

import os
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Study, copy_presets, run_process
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def workflow(path: Path) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(path)


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def commands() -> list[str]:
    return [step["run"] for path in WORKFLOWS for step in steps(path) if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used and [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_one_action_has_one_commit() -> None:
    used = {each for path in WORKFLOWS for each in re.findall(r"uses: (.*)", path.read_text())}
    assert len(used) == len({each.split("@")[0] for each in used})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_ends_by_itself(path: Path) -> None:
    told = workflow(path)
    assert told["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] < 360 and "permissions" not in job for job in told["jobs"].values())


def test_what_the_workflows_run_is_there() -> None:
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    asked = {target for command in commands() for target in re.findall(r"\bmake (\w+)", command)}
    assert asked and asked <= targets
    assert (REPOSITORY / ".ci" / "run").is_file() and "bash .ci/run" in commands()


def test_the_tests_run_on_every_python_from_the_oldest_that_is_supported() -> None:
    matrix = workflow(REPOSITORY / ".github" / "workflows" / "test.yml")["jobs"]["test"]["strategy"]["matrix"]
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, *others = (int(each.removeprefix("3.")) for each in matrix["python"])
    assert f">=3.{oldest}" == wanted and others == list(range(oldest + 1, oldest + 1 + len(others)))
    assert all(each in SpecifierSet(wanted) for each in matrix["python"])


def test_the_package_is_tried_on_the_oldest_and_the_newest_python() -> None:
    jobs = workflow(REPOSITORY / ".github" / "workflows" / "test.yml")["jobs"]
    every, tried = (jobs[name]["strategy"]["matrix"]["python"] for name in ("test", "package"))
    assert tried == [every[0], every[-1]]


@pytest.mark.parametrize("name", ["run", "container", "package"])
def test_a_script_of_ci_is_whole_and_can_be_started(name: str) -> None:
    script = REPOSITORY / ".ci" / name
    assert name == "run" or os.access(script, os.X_OK)
    assert run_process(["bash", "-n", str(script)]).stderr == ""


# --- the container ------------------------------------------------------------------------------------------------


def test_the_image_is_built_on_a_digest_and_from_the_lock() -> None:
    (base,) = re.findall(r"^ARG BASE=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/debian:bookworm-slim@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["${BASE}"]
    assert re.search(r"^RUN make install\b", DOCKERFILE, flags=re.MULTILINE)


def test_every_file_that_the_image_copies_is_there() -> None:
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY .*$", DOCKERFILE, flags=re.MULTILINE)]
    assert [name for names in copied for name in names if not (REPOSITORY / name).exists()] == []


def test_what_git_ignores_stays_out_of_the_image() -> None:
    ignored = patterns(REPOSITORY / ".dockerignore")
    assert {".git"} <= ignored
    for name in patterns(REPOSITORY / ".gitignore") - {"*.egg-info", ".snakemake_timestamp"}:
        assert any(fnmatch(name, each.removeprefix("**/")) for each in ignored), name


def patterns(file: Path) -> set[str]:
    lines = (line.strip().strip("/") for line in file.read_text().splitlines())
    return {line for line in lines if line and not line.startswith("#")}


# Does what `apptainer exec OPTIONS IMAGE sh -c COMMAND` would do, on this machine, and notes that it was asked.
STAND_IN = """#!/bin/bash
[ "$1" = --version ] && { echo "apptainer version 1.3.4"; exit; }
echo "$*" | tr '\\n' ' ' >> "$(dirname "$0")/asked"
while [ "$1" != "$IMAGE_OF_TEST" ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def apptainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for apptainer, first on the path; returns the image that it expects."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    image = tmp_path / "image.sif"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LAYERPRUNE_IMAGE", str(image))
    monkeypatch.setenv("IMAGE_OF_TEST", str(image))
    return image


@pytest.fixture
def empty(tmp_path: Path) -> Study:
    """A folder with presets and nothing else."""
    copy_presets(tmp_path / "study")
    return Study(tmp_path / "study")


MANIFEST = "results/tiny/digits/data.json"


@pytest.mark.slow
def test_with_apptainer_a_job_runs_in_the_image_and_without_it_does_not(empty: Study, apptainer: Path) -> None:
    apptainer.touch()
    asked = apptainer.parent / "bin" / "asked"
    assert (done := empty.snakemake(MANIFEST)).code == 0 and not asked.exists(), done.stderr
    assert (done := empty.snakemake(MANIFEST, "--forceall", "--sdm", "apptainer")).code == 0, done.stderr
    (line,) = asked.read_text().splitlines()
    assert f" {apptainer} " in line and "layerprune stage digits" in line


@pytest.mark.slow
@pytest.mark.parametrize("image", [None, ".", "/dev/null"])
def test_without_an_image_apptainer_ends_with_one_line(
    empty: Study, apptainer: Path, monkeypatch: pytest.MonkeyPatch, image: str | None
) -> None:
    if image is not None:
        monkeypatch.setenv("LAYERPRUNE_IMAGE", image)
    done = empty.snakemake(MANIFEST, "--dry-run", "--sdm", "apptainer")
    lines = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert done.code != 0 and len(lines) == 1 and "no such image" in lines[0] and "docs/container.md" in lines[0]


@pytest.mark.slow
def test_without_apptainer_the_image_may_be_called_anything_and_with_it_no_path_with_a_space(
    empty: Study, apptainer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = apptainer.with_name("an image.sif")
    spaced.touch()
    monkeypatch.setenv("LAYERPRUNE_IMAGE", str(spaced))
    assert (done := empty.snakemake(MANIFEST, "--dry-run")).code == 0, done.stderr
    done = empty.snakemake(MANIFEST, "--dry-run", "--sdm", "apptainer")
    lines = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert done.code != 0 and len(lines) == 1 and "no image with a space in its path" in lines[0]
