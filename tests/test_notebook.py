"""The notebook runs from the first to the last cell, and what is stored of it tells nothing of a machine."""

import os
import re

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "examples" / "prune_your_network.ipynb"


@pytest.fixture
def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def sections_left(text: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(dense|pruned) +(\d+) sections", text, re.MULTILINE)}


def test_it_is_stored_small_with_every_output_and_no_path(stored: nbformat.NotebookNode) -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    assert [cell.execution_count for cell in code_cells(stored)] == list(range(1, len(code_cells(stored)) + 1))
    assert [output for cell in code_cells(stored) for output in cell.outputs if output.get("name") == "stderr"] == []
    assert not re.search(r"(?<![\w.:/])/(home|root|work|tmp|usr|Users)\b", NOTEBOOK.read_text(encoding="utf-8"))
    assert sections_left(printed(stored)) == {"dense": 8, "pruned": 4}


@pytest.mark.slow
def test_it_runs_anew_without_an_error(stored: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    done = NotebookClient(stored, timeout=300, kernel_name="python3", resources=place).execute()
    left = sections_left(printed(done))
    assert left["dense"] == 8 and left["pruned"] == 4
    assert printed(done).count("has left") == 4
