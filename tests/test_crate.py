"""The crate of a study names every file and run of it, once, and repeats nothing that a record says."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import made_up_runs as made_up
import pytest
from conftest import REPOSITORY

from layerprune.suite import config, store
from layerprune.system import files, paths

SCRIPT = REPOSITORY / "workflow" / "scripts" / "crate.py"


def packed(target: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), made_up.PRESET, str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[paths.RunKey]:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "study"))
    keys = made_up.write_study(made_up.preset({"lenet5": {}}, ["dense", "gated", "magnitude"], (0, 1)))
    made_up.fail(keys[-1])
    for key in keys:
        files.write_text(paths.weights(key), "weights")
    files.write_text(paths.table(made_up.PRESET, made_up.DATASET, "csv"), "a,b\n")
    return keys


@pytest.fixture
def crate(study: list[paths.RunKey], tmp_path: Path) -> zipfile.ZipFile:
    done = packed(tmp_path / "crate.zip")
    assert (done.returncode, done.stderr) == (0, "") and "6 runs" in done.stdout
    return zipfile.ZipFile(tmp_path / "crate.zip")


def entities(crate: zipfile.ZipFile) -> dict[str, dict]:
    graph = json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
    found = {each["@id"]: each for each in graph}
    assert len(found) == len(graph)
    return found


def links(value: object) -> list[str]:
    """Every entity that a value points to."""
    if isinstance(value, list):
        return [name for each in value for name in links(each)]
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else [name for each in value.values() for name in links(each)]
    return []


def test_every_link_leads_to_an_entity_and_every_file_has_one(crate: zipfile.ZipFile) -> None:
    found = entities(crate)
    away = {name for each in found.values() for name in links(each) if name not in found}
    assert all(name.startswith(("https://", "http://")) for name in away)
    packed_files = set(crate.namelist()) - {"ro-crate-metadata.json"}
    described = {name for name, each in found.items() if "File" in each["@type"]}
    assert described == packed_files == set(links(found["./"]["hasPart"]))
    for name in packed_files - {"Snakefile"}:
        assert found[name]["sha256"] == hashlib.sha256(crate.read(name)).hexdigest()


def test_every_run_is_an_action_that_points_to_its_record(crate: zipfile.ZipFile, study: list[paths.RunKey]) -> None:
    found = entities(crate)
    for key in study:
        action, made = found[f"#run/{key}"], store.find(key)
        (result,) = links(action["result"])
        assert json.loads(crate.read(result))["checksum"] == action["identifier"] == made.checksum
        parents = [name.removeprefix("#run/") for name in links(action["object"]) if name.startswith("#run/")]
        assert parents == list(made.provenance.parents)
        assert ("error" in action) == (made.status == "diverged")
    assert {"./", "Snakefile", "#study", "LICENSE"} <= found.keys()
    assert links(found["#study"]["instrument"]) == ["Snakefile"] == links(found["./"]["mainEntity"])


def test_a_run_that_is_not_planned_but_started_another_is_an_action_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the dense networks of `random-removal` in the preset laptop."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "study"))
    raw = made_up.preset({"lenet5": {}}, ["dense", "magnitude"], (0, 1))
    raw["datasets"][made_up.DATASET]["methods"] |= {"dense": {"seeds": [0]}, "magnitude": {"settings": {"keep": 1}}}
    files.write_text(paths.preset_file(made_up.PRESET), json.dumps(raw))
    unplanned = paths.RunKey(made_up.PRESET, made_up.DATASET, "lenet5", "dense", "default", 1)
    made_up.write_run(config.load_preset(made_up.PRESET), unplanned)
    assert unplanned not in made_up.write_study(raw)
    assert packed(tmp_path / "crate.zip").returncode == 0
    found = entities(zipfile.ZipFile(tmp_path / "crate.zip"))
    assert f"#run/{unplanned}" in found
    assert [name for each in found.values() for name in links(each) if name[0] == "#" and name not in found] == []


def test_the_same_study_gives_the_same_bytes_without_weights_of_folders(crate: zipfile.ZipFile, tmp_path: Path) -> None:
    assert not [name for name in crate.namelist() if name.endswith((".safetensors", ".pyc", ".tmp"))]
    assert packed(tmp_path / "again.zip").returncode == 0
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "crate.zip").read_bytes()


def test_a_study_without_records_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    raw = made_up.preset({"lenet5": {}}, ["dense"], (0,))
    files.write_text(paths.preset_file(made_up.PRESET), json.dumps(raw))
    done = packed(tmp_path / "crate.zip")
    (line,) = done.stderr.splitlines()
    assert done.returncode != 0 and line.startswith("Error: ") and "no records to pack" in line
    assert not (tmp_path / "crate.zip").exists()
