"""The report is one file that a browser shows without a network: every figure drawn, every table legible."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Study, find_browser

from layerprune.analysis import figures

pytestmark = pytest.mark.slow

# Goes through the report as a reader does: opens a category, clicks each entry's eye, notes what appears.
TOUR = """
const pause = () => new Promise(done => setTimeout(done, 200));
const named = text => [...document.querySelectorAll("a")].find(each => each.textContent.trim() === text);
const paths = Object.fromEntries(Object.entries(results).map(([path, entry]) => [entry.data_uri, path]));
const rows = () => [...document.querySelectorAll("tbody tr")].filter(each => !each.closest(".prose"));
async function openCategory(name) {
    app.setView({navbarMode: "menu"});
    await pause();
    named(name).click();
    await pause();
}
async function look(category, index) {
    await openCategory(category);
    const label = rows()[index].textContent;
    rows()[index].querySelector("a").click();
    await pause();
    const image = [...document.querySelectorAll("img")].find(each => each.src in paths);
    const page = document.querySelector("iframe");
    return {
        label,
        path: image ? paths[image.src] : null,
        width: image ? image.naturalWidth : 0,
        top: image ? image.getBoundingClientRect().top : 0,
        left: image ? image.getBoundingClientRect().left : 0,
        height: image ? image.getBoundingClientRect().height : 0,
        window: window.innerHeight,
        page: page ? page.src : null,
    };
}
async function tour() {
    const graph = [...document.querySelectorAll("svg, canvas")].map(each => each.getBoundingClientRect());
    const table = document.querySelector(".prose table").getBoundingClientRect();
    const seen = {Figures: [], Tables: [], graphs: graph.filter(each => each.left > 300).map(each => each.left)};
    seen.tableEnds = table.right;
    const text = [...document.querySelectorAll(".prose p")].map(each => each.getBoundingClientRect());
    seen.textEnds = Math.max(...text.map(each => each.right));
    seen.width = window.innerWidth;
    for (const category of ["Figures", "Tables"]) {
        await openCategory(category);
        const count = rows().length;
        for (let index = 0; index < count; index++) seen[category].push(await look(category, index));
    }
    const note = document.createElement("pre");
    note.id = "seen";
    note.textContent = JSON.stringify(seen);
    document.body.appendChild(note);
}
window.addEventListener("load", () => setTimeout(tour, 500));
"""
RESULTS = "var results = {"
HEADLINE = """network,dense (%),gated (%),Δ [95 %],layers,FLOPs removed,training FLOPs,seeds
"lenet5, digits",99.21,98.90,"−0.31 [−0.42, −0.20]",4 → 3,27 %,× 0.96,5
"preact-resnet-20 (8 channels), cifar10-jpeg",74.21,73.42,"−0.79 [−1.56, +0.29]",20 → 14,35 %,× 0.76,3
"""
"""As wide as that of laptop."""
BROWSER_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=120000",
    "--dump-dom",
)


@pytest.fixture(scope="module")
def report(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the trained tiny study."""
    copy = study.copy(tmp_path_factory.mktemp("report"))
    headline = copy.folder / "results" / "tiny" / "headline.csv"
    headline.write_text(HEADLINE)  # one seed, as here, gives no such rows
    style = REPOSITORY / "workflow" / "report" / "report.css"
    outcome = copy.snakemake("--report", "tiny.html", "--report-stylesheet", str(style))
    assert outcome.code == 0, outcome.stderr
    return copy.folder / "tiny.html"


@pytest.fixture(scope="module")
def entries(report: Path) -> dict[str, dict]:
    """Path -> entry of the report's list of results."""
    text = report.read_text()
    return json.JSONDecoder().raw_decode(text, text.index(RESULTS) + len(RESULTS) - 1)[0]


def drawn(report: Path) -> set[str]:
    """The pictures of the study."""
    return {path.stem for path in report.parent.glob("figures/tiny/digits/*.svg")}


def test_the_report_has_every_figure_with_its_caption(report: Path, entries: dict[str, dict]) -> None:
    shown = {Path(path).stem: entry for path, entry in entries.items() if path.endswith(".svg")}
    assert set(shown) == drawn(report) >= {"theta", "survivors", "accuracy-vs-depth"}
    assert any(name.startswith("every-method.") for name in shown)
    for name, entry in shown.items():
        words = unescape(re.sub(r"<[^>]+>", "", entry["caption"])).split()
        assert words[:5] == figures.captions[name.split(".")[0]].split()[:5]


def test_a_page_of_the_report_links_to_no_file_outside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import table_page

    page = table_page.page_of(
        "[runs.csv](../mnist/runs.csv) of [the paper](https://arxiv.org/abs/2406.04549)", "claims"
    )
    assert re.findall(r'href="([^"]+)"', page) == ["https://arxiv.org/abs/2406.04549"]
    assert "<p>runs.csv of <a" in page


def test_every_entry_of_the_report_has_a_caption_and_labels(entries: dict[str, dict]) -> None:
    assert {path for path, entry in entries.items() if path.endswith((".html", ".csv"))}
    for path, entry in entries.items():
        about = "all" if Path(path).stem == "claims" else "digits"
        assert entry["caption"] and entry["labels"]["data set"] == about, path
    assert {Path(path).name for path in entries} >= {"claims.csv", "claims.html"}


def test_the_report_loads_nothing_from_a_network(report: Path) -> None:
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", report.read_text())


def test_the_start_page_has_the_headline(report: Path) -> None:
    assert "lenet5, digits</td>" in report.read_text()


def toured(report: Path, folder: Path, size: str) -> dict[str, Any]:
    """What a reader sees who opens every figure and table in a window of this size."""
    page = folder / "toured.html"
    page.write_text(f"<script>{TOUR}</script></body>".join(report.read_text().rsplit("</body>", 1)))
    flags = [*BROWSER_FLAGS, f"--user-data-dir={folder / 'browser'}", f"--window-size={size}"]
    command = [find_browser(), *flags, page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL).stdout
    assert '<pre id="seen">' in dom, "the browser did not get through the report"
    return json.loads(unescape(dom.rsplit('<pre id="seen">', 1)[1].split("</pre>", 1)[0]))


@pytest.mark.browser
@pytest.mark.parametrize("size", ["1400,900", "900,500"])
def test_a_browser_shows_every_figure_from_its_top_and_every_table(report: Path, tmp_path: Path, size: str) -> None:
    seen = toured(report, tmp_path, size)
    assert seen["graphs"] and min(seen["graphs"]) >= seen["tableEnds"]  # nothing is drawn upon the headline
    assert seen["textEnds"] <= seen["width"]
    shown = {Path(each["path"]).stem: each for each in seen["Figures"] if each["path"]}
    assert set(shown) == drawn(report)
    assert all(each["width"] > 200 and name in each["label"] for name, each in shown.items())
    assert max(each["height"] for each in shown.values()) > shown["theta"]["window"] or size == "1400,900"
    assert [name for name, each in shown.items() if min(each["top"], each["left"]) < 0] == []
    assert len(seen["Tables"]) == 1 and seen["Tables"][0]["page"].startswith("data:text/html")
