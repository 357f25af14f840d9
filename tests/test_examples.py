"""The examples run as they stand, are short, and do what they say."""

import os
import re
import sys

import pytest
from conftest import REPOSITORY, run_process

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
MADE = re.compile(r"^(\w+) +depth +(\d+) +([\d,]+) MACs +([\d.]+) % +([\d.]+) ms", re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_leaves_a_shallower_network_that_has_learnt(path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(path.read_text().splitlines()) <= 60
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    done = run_process([sys.executable, str(path)])
    assert done.code == 0, done.stderr
    before, after = MADE.findall(done.stdout)
    assert int(after[1]) < int(before[1])
    assert int(after[2].replace(",", "")) == pytest.approx(0.5 * int(before[2].replace(",", "")), rel=0.15)
    assert float(after[3]) > 90
