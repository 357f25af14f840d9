"""Citation, deposit and catalog files agree with the package, and the workflow starts the way catalogs expect."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import REPOSITORY, copy_presets, run_module
from ruamel.yaml import YAML

import layerprune
from layerprune.suite import config

PRESETS = {path.stem for path in (REPOSITORY / "config").glob("*.yaml")}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import write_metadata

    return write_metadata


@pytest.mark.parametrize("name", ["CITATION.cff", "codemeta.json", ".zenodo.json"])
def test_metadata_is_what_the_script_makes(script, name: str) -> None:
    made = script.texts(script.project())[name]
    assert (REPOSITORY / name).read_text(encoding="utf-8") == made, "run: python workflow/scripts/write_metadata.py"


def test_every_file_tells_the_version_of_the_package(script) -> None:
    told = script.project()
    contents = script.citation(told), script.codemeta(told), script.zenodo(told)
    assert {each["version"] for each in contents} == {layerprune.__version__}
    assert {
        each.get("date-released", each.get("datePublished", each.get("publication_date"))) for each in contents
    } == {told["date"]}


def test_the_version_has_one_place(tmp_path: Path) -> None:
    """What an installer reads is what the package says, without a second number in pyproject.toml."""
    assert "version" not in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert version("layerprune") == layerprune.__version__


def test_what_the_owner_fills_in_arrives_everywhere_and_ends_the_warnings(script) -> None:
    told = script.project()
    assert [line.split(":")[0] for line in script.lacking(told | {"date": None})][-1] == "no date"
    people = [{"name": "Doe, Jane"}, {"name": "The layerprune authors"}]
    filled = told | {"urls": {"Repository": "https://example.org/layerprune"}, "authors": people}
    assert script.lacking(filled) == []
    assert script.citation(filled)["repository-code"] == "https://example.org/layerprune"
    assert script.citation(filled)["authors"][0] == {"family-names": "Doe", "given-names": "Jane"}
    assert [each["@type"] for each in script.codemeta(filled)["author"]] == ["Person", "Organization"]
    assert script.codemeta(filled)["codeRepository"] == "https://example.org/layerprune"


def test_a_version_without_a_date_in_the_changelog_has_none(script, tmp_path: Path) -> None:
    (tmp_path / "src" / "layerprune").mkdir(parents=True)
    for name in ("pyproject.toml", "CHANGELOG.md"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    (tmp_path / "src" / "layerprune" / "__init__.py").write_text('__version__ = "99.0.0"\n')
    told = script.project(tmp_path)
    assert told["version"] == "99.0.0" and told["date"] is None and "date-released" not in script.citation(told)


# --- the catalog of workflows -----------------------------------------------------------------------------------


def test_the_workflow_starts_from_the_catalogs_snakefile_as_from_the_other(tmp_path: Path) -> None:
    copy_presets(tmp_path)
    jobs = {}
    for name in ("Snakefile", "workflow/Snakefile"):
        words = ["--snakefile", REPOSITORY / name, "--directory", tmp_path, "--cores", "1", "--dry-run"]
        outcome = run_module("snakemake", *words, "--config", "preset=tiny", cwd=tmp_path)
        assert outcome.code == 0, outcome.stderr
        jobs[name] = re.findall(r"^(\w+) +(\d+)$", outcome.stdout + outcome.stderr, flags=re.MULTILINE)
    assert ("train", "4") in jobs["Snakefile"]
    assert [(rule.replace("everything", "all"), n) for rule, n in jobs["workflow/Snakefile"]] == jobs["Snakefile"]


def test_the_catalog_is_told_flags_that_the_workflow_takes() -> None:
    usage = YAML(typ="safe", pure=True).load(REPOSITORY / ".snakemake-workflow-catalog.yml")["usage"]
    (preset,) = re.findall(r"--config preset=(\S+)", usage["mandatory-flags"]["flags"])
    assert preset in PRESETS and usage["software-stack-deployment"]["conda"]


def test_the_configurations_instructions_name_every_preset_and_show_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "config" / "README.md").read_text(encoding="utf-8")
    assert PRESETS - set(re.findall(r"`([a-z-]+)`", text)) == set()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "example.yaml").write_text(example)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    assert len(config.plan(config.load_preset("example"), "example")) == 6
