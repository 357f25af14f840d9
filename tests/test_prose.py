"""The project's style of English: phrases that need a second reading are found, and none is in the texts."""

import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "workflow" / "scripts"))

import prose


def test_no_text_has_a_phrase_that_needs_a_second_reading() -> None:
    assert [(file, line, each) for file, line, text in prose.texts() for each in prose.complaints(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "where its images are at hand",
        "a killed one goes on where it stood",
        "compare files, in\nturns",
        "the libraries choose by the maker",
        "an accuracy difference, of 1",
        "word " * (prose.LONGEST + 1),
    ],
)
def test_such_a_phrase_is_named(text: str) -> None:
    assert len(list(prose.complaints(text))) >= 1


def test_pages_are_read_without_code_and_generated_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    (tmp_path / "src" / "layerprune").mkdir(parents=True)
    (tmp_path / "src" / "layerprune" / "cli.py").touch()
    generated = "<!-- generated:x:y -->\nat hand\n<!-- /generated:x:y -->\n"
    (tmp_path / "README.md").write_text(f"{generated}\n```\nat hand\n```\n\n`at hand`\n\nIt is\nat hand.\n")
    found = [(file, line) for file, line, text in prose.texts() for _ in prose.complaints(text)]
    assert found == [("README.md", 11)]


def test_help_captions_and_errors_are_read() -> None:
    read = {file for file, _, _ in prose.texts()}
    assert {"src/layerprune/cli.py", "src/layerprune/analysis/figures/theta.py", "docs/results/mnist.md"} <= read
