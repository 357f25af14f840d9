"""The examples run as they stand, are short, and do what they say."""

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, run_process

TEXTS = REPOSITORY / "examples" / "language_model.py"
DETECTION = TEXTS.with_name("detection.py")
EXAMPLES = sorted(path for path in TEXTS.parent.glob("*.py") if not path.stem.startswith("_"))
CLASSIFIERS = [path for path in EXAMPLES if path not in (DETECTION, TEXTS)]
SHORTEST = TEXTS.with_name("own_network.py")
"""The others take up to three quarters of a minute: with the long tests."""
READ = re.compile(r"^(\w+) +(\d+) layers +perplexity +([\d.]+) +([\d,]+) tokens/s", re.MULTILINE)
MADE = re.compile(r"^(\w+) +(\d+) sections +([\d,]+) MACs +([\d.]+) %", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path == SHORTEST else pytest.mark.long) for path in CLASSIFIERS],
    ids=lambda path: path.stem,
)
def test_an_example_leaves_a_smaller_network_that_has_learnt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(path.read_text().splitlines()) <= 60
    if path.stem == "timm_model":
        pytest.importorskip("timm", reason="timm is absent: pip install timm")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    done = run_process([sys.executable, str(path)])
    assert done.code == 0, done.stderr
    before, dense, after = MADE.findall(done.stdout)
    assert (
        dense[0] == "dense" and dense[1:3] == before[1:3] and float(dense[3]) > 80
    )  # the same budget, nothing removed
    removed = done.stdout.count("\nremoved ")
    assert int(after[1]) == int(before[1]) - removed and removed >= 3
    assert int(after[2].replace(",", "")) < 0.75 * int(before[2].replace(",", ""))
    assert float(after[3]) > 80 > float(before[3])


@pytest.mark.long
def test_half_of_the_layers_of_a_small_gpt_leave_while_it_learns_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="Transformers is absent: pip install transformers accelerate")
    assert len(TEXTS.read_text().splitlines()) <= 60
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    done = run_process([sys.executable, str(TEXTS)])
    assert done.code == 0, done.stderr
    rows = READ.findall(done.stdout)
    assert [row[:2] for row in rows] == [("untrained", "6"), ("dense", "6"), ("pruned", "3")]
    assert done.stdout.count("\nremoved ") == 3
    before, dense, pruned = (float(row[2]) for row in rows)
    assert before > 60 and max(dense, pruned) < before / 3  # there are some ninety letters


@pytest.mark.long
def test_a_detector_finds_boxes_with_half_of_its_backbones_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(DETECTION.read_text().splitlines()) <= 75
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    done = run_process([sys.executable, str(DETECTION)])
    assert done.code == 0, done.stderr
    assert done.stdout.count("\nremoved body.layer") == 4
    assert re.search(r"^sections +11 +7 ", done.stdout, re.MULTILINE)
    pruned, dense = re.search(r"boxes found: (\d+) %, by the dense detector (\d+) %", done.stdout).groups()
    assert min(int(pruned), int(dense)) > 50
