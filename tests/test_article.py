"""The article says what the records say, and becomes a PDF of a few pages."""

import json
import re
from pathlib import Path

import made_up_runs as made_up
import pytest
from conftest import REPOSITORY

from layerprune.analysis import article, build, compact, frames
from layerprune.system import paths

pytestmark = pytest.mark.slow


@pytest.fixture
def study(root: Path) -> frames.Study:
    made_up.write_study(made_up.preset({"lenet5": {}, "mlp-residual-5": {}, "mlp-residual-20": {}}))
    build.build_figures(made_up.PRESET, made_up.DATASET, ["depth-vs-start", "random-removal"])
    return frames.read_study(made_up.PRESET, made_up.DATASET)


def test_every_network_of_the_headline_has_its_table(study: frames.Study) -> None:
    contents = article.contents(made_up.PRESET)
    assert json.loads(json.dumps(contents)) == contents
    assert [network["title"].split(",")[0] for network in contents["networks"]] == study.archs
    for network, arch in zip(contents["networks"], study.archs, strict=True):
        rows = [row["cells"] for group in network["groups"] for row in group["rows"]]
        assert rows == [row["cells"] for row in compact.cells(compact.compact(study, arch))]


def test_a_figure_that_shows_nothing_is_left_out(study: frames.Study) -> None:
    shown = [Path(each["path"]).stem for each in article.contents(made_up.PRESET)["figures"]]
    assert shown == ["depth-vs-start"]  # no random removal was run


def test_published_rows_say_what_was_removed_at_what_cost(study: frames.Study) -> None:
    rows = article._published("cifar10")["rows"]
    assert ["ResNet-56", "GAL-0.6", "-0.28", "37.6", "10 of 27", "R3"] in rows
    assert all("–" not in row[2:4] for row in rows if not row[1].startswith("this paper"))
    assert any(row[1].startswith("this paper") for row in rows)


def test_it_becomes_a_pdf_of_a_few_pages(study: frames.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typst", reason="typst is absent: make install")
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import article as script

    made = script.pdf(made_up.PRESET)
    (pages,) = re.findall(rb"/Type/Pages/Count (\d+)", made)
    assert made.startswith(b"%PDF") and 2 <= int(pages) <= 6
    assert not list((paths.root() / "report").iterdir())
