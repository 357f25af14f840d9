"""README.md is short, says the result first, its example runs as it stands, and what it names exists."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from layerprune.analysis import headline, pages
from layerprune.core import timing
from layerprune.library.latency import machine

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
LONGEST = 120
PAGES = [
    page
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"))
    if "<!-- generated:" in page.read_text(encoding="utf-8")
]
MEASURED = re.compile(r"^(whole|smaller): ([\d,]+) multiply-adds, \d+\.\d ms$")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def table() -> list[str]:
    (block,) = re.findall(
        r"<!-- generated:headline:laptop\+study\+published-width -->\n(.*?)\n\n", README, flags=re.DOTALL
    )
    return block.splitlines()[2:]


def macs_of(printed: str) -> dict[str, int]:
    found = [MEASURED.match(line) for line in printed.splitlines()]
    return {match[1]: int(match[2].replace(",", "")) for match in found if match}


def test_it_is_short_and_has_one_figure_and_one_small_table() -> None:
    assert len(README.splitlines()) <= LONGEST
    assert README.count("![") == 2  # with the badge
    assert 0 < len(table()) <= headline.LARGEST


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_generated_parts_are_those_of_the_records(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    assert pages.is_current(page), "run: layerprune pages"


def test_every_page_of_results_is_generated() -> None:
    assert {page.stem for page in PAGES} >= {"README", "index", "findings", "mnist", "cifar10", "imagenet"}


def test_the_example_cuts_the_network_to_what_it_asks_for_and_prints_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    (code,) = code_blocks("python")
    assert len(code.splitlines()) < 20
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    captured = capsys.readouterr()
    assert "same layers" not in captured.err
    whole, largest = names["sections"].macs, max(section.macs for section in names["sections"])
    for text in (captured.out, code_blocks("text")[1]):
        measured = macs_of(text)
        assert list(measured) == ["whole", "smaller"] and len(measured) == len(text.splitlines())
        assert measured["smaller"] == pytest.approx(0.6 * measured["whole"], abs=largest / 2)
        assert measured["whole"] == pytest.approx(whole, rel=0.01)


def test_the_output_of_make_reproduce_is_what_the_makefile_prints() -> None:
    shown = [line for line in code_blocks("text")[0].splitlines() if line.startswith(("Tables", "Figures", "Report:"))]
    printed = re.findall(r'@echo "((?:Tables|Figures|Report):.*)"', MAKEFILE)
    assert shown == [line.replace("$(REPORT)", "report/quick.html").replace("$(PRESET)", "quick") for line in printed]


@pytest.mark.parametrize("target", ["reproduce", "test", *re.findall(r"`?make (\w+)", README)])
def test_every_make_target_it_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_every_link_leads_to_a_file(link: str) -> None:
    hosted = re.fullmatch(r"\.\./\.\./actions/workflows/([\w.]+)(/badge\.svg)?", link)  # where the repository is hosted
    assert (REPOSITORY / (f".github/workflows/{hosted[1]}" if hosted else link)).exists()
