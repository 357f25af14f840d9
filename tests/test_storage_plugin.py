"""A study in a storage of Snakemake: jobs find there what they ask for, and leave there what they make."""

import os
from pathlib import Path

import pytest
from conftest import Study, copy_presets

from layerprune.suite import record

pytest.importorskip("snakemake_storage_plugin_fs", reason="pip install snakemake-storage-plugin-fs")
pytestmark = pytest.mark.slow
RUN = Path("results/tiny/digits/lenet-300-100/random/default/seed0")


def test_runs_go_to_the_storage_and_what_they_start_from_comes_from_there(tmp_path: Path) -> None:
    copy_presets(tmp_path / "study")
    storage = tmp_path / "storage"
    storage.mkdir()
    words = ["--default-storage-provider", "fs", "--default-storage-prefix", str(storage)]
    study = Study(tmp_path / "study")
    done = study.snakemake(str(RUN / "record.json"), *words)
    assert done.code == 0, done.stderr
    assert {path.name for path in (storage / RUN).iterdir()} == {
        "arch.json",
        "curves.csv",
        "record.json",
        "weights.safetensors",
    }
    parents = record.read(storage / RUN / "record.json").provenance.parents
    assert {os.path.dirname(name) for name in parents} == {
        "tiny/digits/lenet-300-100/dense/default",
        "tiny/digits/lenet-300-100/gated/default",
    }
    for name in parents:
        assert (storage / "results" / name / "record.json").is_file()
    assert not (tmp_path / "study" / "results").exists()
    assert "which is run first" not in "".join(path.read_text() for path in storage.glob("logs/**/*.log"))
