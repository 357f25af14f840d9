"""The README's examples run as they stand, are short, and what it names exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import layerprune
from layerprune.core.methods import families
from layerprune.core.methods.base import keep_highest
from layerprune.core.networks.build import build, initialise

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def example(heading: str) -> dict[str, Any]:
    """What the Python block below a heading defines."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(code.splitlines()) < 40
    names: dict[str, Any] = {}
    exec(compile(code, f"README: {heading}", "exec"), names)
    return names


def test_the_method_of_the_readme_ranks_sections() -> None:
    network = build("mlp-residual-5", (1, 28, 28), 10, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.sections[3].branch[-1].bias.fill_(1.0)
    scores = example("Add a method")["score"](network, [])
    assert keep_highest(scores.tolist(), 1) == [0, 0, 0, 1, 0]


def test_the_network_of_the_readme_has_sections() -> None:
    network = example("Add a network")["build"]("tiny-mlp", (1, 28, 28), 10)
    initialise(network, torch.Generator().manual_seed(0))
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert network.keep() == [1, 1, 1]


def test_the_dataset_of_the_readme_loads(tmp_path: Path) -> None:
    data = example("Add a dataset")["load"](tmp_path)
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == {0, 1, 2, 3, 4}


def test_the_network_of_somebody_else_in_the_readme_is_pruned_to_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = example("Prune your own network")
    left = layerprune.find_sections(names["smaller"], torch.zeros(1, 3, 64, 64)).macs
    largest = max(section.macs for section in names["sections"])
    assert left == pytest.approx(0.6 * names["sections"].macs, abs=largest / 2)


def test_every_method_is_in_the_table_of_methods() -> None:
    for slug, family in families().items():
        (row,) = [line for line in README.splitlines() if line.startswith(f"| {family} |")]
        assert f"`{slug}`" in row


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
def test_every_make_target_it_names_exists(target: str) -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
