"""The article says what the records say, and becomes a PDF of a few pages."""

import json
import re
import shutil
from pathlib import Path

import made_up_runs as made_up
import pytest
from conftest import REPOSITORY

from layerprune.analysis import article, build, compact, figures, frames, headline
from layerprune.errors import LayerpruneError
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

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


def test_the_runs_that_its_claims_are_judged_by_too_are_in_the_article_and_on_the_start_page(root: Path) -> None:
    made_up.write_study(made_up.preset({"mlp-residual-5": {}}) | {"evidence": ["other"]})
    made_up.write_study(
        made_up.preset({"lenet5": {}, "mlp-residual-20": {}, "mlp-residual-40": {}}, ["dense", "gated", "random"]),
        "other",
    )
    shutil.rmtree(paths.run_folder(RunKey("other", made_up.DATASET, "lenet5", "random", "default", 0)).parents[1])
    build.build_figures("other", made_up.DATASET, ["depth-vs-start"], partial=True)
    contents = article.contents(made_up.PRESET)
    assert contents["beside"] == ["other"] and [row[0] for row in contents["studies"]] == [made_up.PRESET, "other"]
    assert [network["title"].split(",")[0] for network in contents["networks"]] == [
        "mlp-residual-5",
        "lenet5",
        "mlp-residual-20",
        "mlp-residual-40",
    ]
    groups = [group["heading"] for group in contents["networks"][1]["groups"]]
    assert groups == [compact.GROUPS["dense"], compact.GROUPS["ours"]]  # random has not run on lenet5
    assert [each["path"] for each in contents["figures"]] == ["figures/other/mnist/depth-vs-start.svg"]
    (table,) = headline.write(made_up.PRESET)
    assert [row.split(",")[0].strip('"') for row in table.read_text().splitlines()[1:]] == [
        "mlp-residual-5",
        "lenet5",
        "mlp-residual-20",
        "mlp-residual-40",
    ]


def test_a_preset_without_results_has_no_article(root: Path) -> None:
    files.write_text(paths.preset_file(made_up.PRESET), json.dumps(made_up.preset({"lenet5": {}})))
    with pytest.raises(LayerpruneError, match=f"preset {made_up.PRESET} has no results yet"):
        article.contents(made_up.PRESET)


def test_code_in_captions_is_set_as_code() -> None:
    template = (REPOSITORY / "workflow" / "report" / "article.typ").read_text()
    assert any("`" in caption for caption in figures.captions.values())
    for text in ("each.caption", "contents.verdicts_legend"):
        assert template.count(text) == template.count(f"prose({text})") == 1


def test_published_rows_say_what_was_removed_at_what_cost(study: frames.Study) -> None:
    rows = article._published("cifar10")["rows"]
    assert ["ResNet-56", "GAL-0.6", "−0.28", "37.6", "10 of 27", "R3"] in rows
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
