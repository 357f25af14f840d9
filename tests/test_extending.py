"""The examples of docs/extending.md run as they stand, are short, and every method is in the table of methods."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY

from layerprune.core.data import catalog
from layerprune.core.methods import description, families, listing
from layerprune.core.methods.base import keep_highest
from layerprune.core.networks.build import build, initialise

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
HEADINGS = ["Add a method", "Add a network", "Add a data set"]


def code_blocks(heading: str) -> list[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "docs/extending.md", "exec"), names)
    return names


def example(heading: str) -> dict[str, Any]:
    """What the first Python block below a heading defines."""
    return run(code_blocks(heading)[0], {})


def test_every_example_is_executed_here_and_short() -> None:
    executed = [code for heading in HEADINGS for code in code_blocks(heading)]
    assert executed == re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert max(len(code.splitlines()) for code in executed) < 40


def test_the_method_ranks_sections() -> None:
    network = build("mlp-residual-5", (1, 28, 28), 10, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.sections[3].branch[-1].bias.fill_(1.0)
    scores = example("Add a method")["score"](network, [])
    assert keep_highest(scores.tolist(), 1) == [0, 0, 0, 1, 0]


def test_the_network_has_sections() -> None:
    network = example("Add a network")["build"]("tiny-mlp", (1, 28, 28), 10)
    initialise(network, torch.Generator().manual_seed(0))
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert network.keep() == [1, 1, 1]


def test_the_data_set_loads_as_its_row_of_the_catalog_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = example("Add a data set")["load"](tmp_path)
    row = run(code_blocks("Add a data set")[1], vars(catalog).copy())["FEW_DIGITS"]
    monkeypatch.setattr(catalog, "_FORMS", {row.name: (row,)})
    assert catalog.is_available(data.name, tmp_path, download=False) == (True, "")
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == set(range(row.classes))
    assert (data.classes, len(data.train), data.source) == (row.classes, row.train, row.sources[0])


def test_every_method_is_described_where_methods_are_listed() -> None:
    page = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    for slug, family in families().items():
        (_, table, _) = re.split(rf"<!-- /?generated:methods:{family} -->", page)
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{slug}` |")]
        assert len(row.split("|", 2)[2].replace("|", "").strip()) > 20
        assert description(slug) in listing()
