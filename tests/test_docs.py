"""The documentation is complete, leads nowhere that is not there, needs no network, and can be read on a phone."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from conftest import REPOSITORY, find_browser, run_process
from filelock import FileLock

import layerprune
from layerprune.analysis import figures
from layerprune.cli import app
from layerprune.core import methods
from layerprune.core.data import catalog
from layerprune.core.settings import FinetuneSettings, ModelSettings, TrainingSettings
from layerprune.suite import config

pytestmark = pytest.mark.slow

CHEAT_SHEET = (REPOSITORY / "docs" / "cheat-sheet.md").read_text(encoding="utf-8")
PHONE, DESKTOP = 400, 1280

# Opens every page in a frame of a phone's and of a desktop's width and notes what is to be seen there.
TOUR = """
const settled = frame => new Promise(done => frame.onload = done);
async function look(page, width) {
    const frame = document.createElement("iframe");
    Object.assign(frame, {src: page, width, height: 800});
    document.body.append(frame);
    await settled(frame);
    const inside = frame.contentDocument, root = inside.documentElement;
    const seen = {
        page, width,
        heading: inside.querySelector("h1").getBoundingClientRect().height,
        overflow: root.scrollWidth - root.clientWidth,
        equations: [...inside.querySelectorAll("math")].map(each => each.getBoundingClientRect().height),
        pictures: [...inside.querySelectorAll("article img")].map(each => each.naturalWidth),
        resources: frame.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
    };
    frame.remove();
    return seen;
}
async function tour(pages, widths) {
    const seen = [];
    for (const page of pages) for (const width of widths) seen.push(await look(page, width));
    const note = document.createElement("pre");
    note.id = "seen";
    note.textContent = JSON.stringify(seen);
    document.body.append(note);
}
"""
BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--enable-logging=stderr"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--allow-file-access-from-files", f"--window-size={DESKTOP + 100},900", "--dump-dom"),
    "--virtual-time-budget=60000",
)


@dataclass
class Page(HTMLParser):
    """What a page of the site links to, loads, and offers as anchors."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value for name, value in attributes if value}
        self.anchors |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag != "a":
            self.loaded += [told[name] for name in ("src", "href", "srcset", "data") if name in told]


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The site, built once for all test processes, with warnings as errors."""
    if worker_id == "master":
        return build_site(tmp_path_factory.mktemp("site") / "html")
    shared = tmp_path_factory.getbasetemp().parent / "site" / "html"
    with FileLock(f"{shared.parent}.lock"):
        return shared if shared.exists() else build_site(shared)


def build_site(folder: Path) -> Path:
    words = ["--fail-on-warning", "--keep-going", "--quiet", "docs", str(folder)]
    built = run_process([sys.executable, "-m", "sphinx", *words], cwd=REPOSITORY)
    assert built.code == 0, built.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(page for page in site.rglob("*.html") if not {"_static", "_sources"} & set(page.parts))


def words_of(page: Path) -> str:
    """The text of a page, without markup."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def letters_of(page: Path) -> str:
    return letters(words_of(page))


def letters(text: str) -> str:
    """Text without what typesetting changes: quotes, dashes, spaces."""
    return re.sub(r"[\W_]+", "", text)


# --- links ------------------------------------------------------------------------------------------------------


def test_every_link_within_the_site_leads_to_a_file_and_an_anchor_that_are_there(site: Path) -> None:
    broken = [f"{page.name}: {link}" for page in pages(site) for link in read(page).links if is_broken(page, link)]
    assert broken == []


def is_broken(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return False
    address, anchor = urldefrag(link)
    target = page.parent / unquote(address.partition("?")[0]) if address else page
    return not target.is_file() or bool(
        anchor and target.suffix == ".html" and unquote(anchor) not in read(target).anchors
    )


def test_what_pages_load_lies_beside_them(site: Path) -> None:
    loaded = {(page, each) for page in pages(site) for each in read(page).loaded}
    remote = [(page.name, each) for page, each in loaded if re.match(r"(https?:)?//", each)]
    lacking = [(page.name, each) for page, each in loaded if not each.startswith("data:") and is_broken(page, each)]
    assert remote == lacking == []


def test_style_sheets_and_scripts_load_nothing_from_a_network(site: Path) -> None:
    for file in [*site.rglob("*.css"), *site.rglob("*.js")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?(https?:)?//|@import|\bimport\(|importScripts", text), file.name


def test_links_that_leave_the_site_are_listed_and_not_asked_for(site: Path) -> None:
    listed = (site / "external-links.txt").read_text(encoding="utf-8").split()
    assert listed and all(address.startswith("https://") for address in listed)


# --- completeness -----------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference_with_its_docstring(site: Path) -> None:
    shown, anchors = letters_of(site / "api.html"), read(site / "api.html").anchors
    for name in layerprune.__all__:
        assert any(anchor.endswith(f".{name}") for anchor in anchors)
        assert letters(getattr(layerprune, name).__doc__.splitlines()[0]) in shown, name


def test_the_reference_says_nothing_that_only_python_says(site: Path) -> None:
    assert "Alias for field number" not in (site / "api.html").read_text()


def test_the_extension_points_are_in_the_reference(site: Path) -> None:
    anchors = read(site / "api.html").anchors
    for name in ("methods.base.TrainingMethod.gates", "networks.sections.Section", "data.dataset.DataSet"):
        assert f"layerprune.core.{name}" in anchors
    assert {"layerprune.core.gates.estimators.Estimator", "layerprune.core.networks.build.build"} <= anchors


def test_every_setting_is_explained(site: Path) -> None:
    shown = letters_of(site / "settings.html")
    schemas = [config.Preset, TrainingSettings, FinetuneSettings, ModelSettings]
    schemas += [methods.settings_class(slug) for slug in methods.families()]
    for schema in schemas:
        for name, key in schema.model_fields.items():
            assert letters(name + key.description) in shown, f"{schema.__name__}.{name}"


def test_every_method_is_among_the_settings(site: Path) -> None:
    shown = words_of(site / "settings.html")
    assert [slug for slug in methods.families() if slug not in shown] == []


def test_every_command_is_explained(site: Path) -> None:
    shown = letters_of(site / "commands.html")
    for command in app.registered_commands:
        first, usage = (
            command.callback.__doc__.splitlines()[0],
            command.name or command.callback.__name__.replace("_", "-"),
        )
        assert letters(first) in shown and letters(f"layerprune {usage}") in shown


def test_every_figure_is_shown_with_its_caption(site: Path) -> None:
    shown = {page: letters_of(site / f"{page}.html") for page in ("reading-the-report", "more-figures")}
    pages = {name: "reading-the-report" if name in figures.RANKED else "more-figures" for name in figures.FIGURES}
    assert [name for name, page in pages.items() if letters(figures.captions[name]) not in shown[page]] == []


def test_no_equation_is_left_as_text(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count("<math") > 50
    assert not re.search(r"\\[a-z]{2,}", words_of(site / "method.html"))


INCLUDED = re.compile(r'\.\./README\.md\n:start-after: "(.+)"\n:end-before: "(.+)"')


def test_pages_show_parts_of_the_readme_whose_bounds_it_has_once_and_in_this_order() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    texts = [page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs").glob("*.md")]
    bounds = [found for text in texts for found in INCLUDED.findall(text)]
    assert len(bounds) == "".join(texts).count("{include} ../README.md") > 0
    assert [each for each in bounds if [readme.count(bound) for bound in each] != [1, 1]] == []
    assert [(start, end) for start, end in bounds if readme.index(start) > readme.index(end)] == []


def test_a_part_that_nobody_makes_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs" / "_extensions")
    from from_source import filled

    assert "make reproduce" in filled("<!-- site:make-targets -->")
    with pytest.raises(Exception, match="site:make-up -->: unknown part"):
        filled("<!-- site:make-up -->")


def test_the_drawing_of_the_house_has_every_floor_and_every_room_of_core() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawing,) = re.findall(r"```text\n(src/layerprune/.*?)```", text, flags=re.DOTALL)
    package = Path(layerprune.__file__).parent
    assert set(re.findall(r"^  (\w\S+)", drawing, flags=re.MULTILINE)) == rooms(package)
    (core,) = re.findall(r"^  core/.*\n((?:    .*\n)+)", drawing, flags=re.MULTILINE)
    assert set(re.findall(r"^    (\w\S+)", core, flags=re.MULTILINE)) == rooms(package / "core")


def rooms(folder: Path) -> set[str]:
    """Folders and modules directly in a folder of the package, as the drawing writes them."""
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    return folders | {path.name for path in folder.glob("[!_]*.py")}


# --- the cheat sheet --------------------------------------------------------------------------------------------


def rules() -> set[str]:
    """Names of the rules that the workflow spells out."""
    files = [REPOSITORY / "Snakefile", *(REPOSITORY / "workflow" / "rules").glob("*.smk")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"^(?:rule|use rule \w+ as) (\w+)", text, flags=re.MULTILINE))


def test_the_cheat_sheet_has_every_rule_and_data_set() -> None:
    named = set(re.findall(r"`(?:snakemake )?(\w+)[^`]*`", CHEAT_SHEET))
    assert rules() and (rules() | set(catalog.NAMES)) - named == set()


def test_every_target_of_the_cheat_sheet_exists() -> None:
    named = set(re.findall(r"snakemake ([a-z]\w*)", CHEAT_SHEET))
    networks = {name for name in named if name.partition("_")[0] in catalog.NAMES}
    assert named - networks - rules() == set()
    assert networks >= {"cifar10_resnet20"}


def test_the_cheat_sheet_has_every_target_of_the_makefile(site: Path) -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    shown = words_of(site / "cheat-sheet.html")
    assert [target for target in phony.split() if f"make {target}" not in shown] == []


# --- in a browser -----------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_every_page_can_be_read_on_a_phone_and_on_a_desktop(site: Path, tmp_path: Path) -> None:
    names = [page.relative_to(site).as_posix() for page in pages(site) if page.name not in ("tour.html", "search.html")]
    (site / "tour.html").write_text(
        f"<!doctype html><body><script>{TOUR} tour({json.dumps(names)}, [{PHONE}, {DESKTOP}]);</script></body>"
    )
    command = [find_browser(), *BROWSER_FLAGS, f"--user-data-dir={tmp_path}", (site / "tour.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert '<pre id="seen">' in done.stdout, "the browser did not get through the site"
    seen = json.loads(unescape(done.stdout.rsplit('<pre id="seen">', 1)[1].split("</pre>", 1)[0]))
    assert len(seen) == 2 * len(names)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert [(each["page"], each["width"]) for each in seen if each["overflow"] > 0 or each["heading"] <= 0] == []
    assert all(min(each["pictures"], default=1) > 0 for each in seen)
    assert all(min(each["equations"], default=1) > 0 for each in seen)
    assert sum(len(each["equations"]) for each in seen) > 100
    assert [name for each in seen for name in each["resources"] if not name.startswith(("file:", "data:"))] == []


def test_the_recipes_tables_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import page_tables
    import recipe_table

    tables = recipe_table.tables()
    page = recipe_table.PAGE.read_text(encoding="utf-8")
    assert page == page_tables.filled(recipe_table.PAGE, tables), "run: python workflow/scripts/recipe_table.py"
    assert tables["settings"].count("**the recipe**") == 1
    assert len(tables["rivals"].splitlines()) == 2 + _records("rival-search", "cifar10")
    for dataset in ("cifar10", "mnist"):
        runs = [int(line.split("|")[3]) for line in tables[f"price-{dataset}"].splitlines()[2:]]
        assert sum(runs) == _records("price-search", dataset)


def test_a_table_has_one_place_in_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import page_tables

    page = tmp_path / "page.md"
    page.write_text("one\n<!-- table:a -->\nold\n<!-- /table:a -->\ntwo\n")
    new = page_tables.filled(page, {"a": "| new |\n"})
    assert new == "one\n<!-- table:a -->\n| new |\n<!-- /table:a -->\ntwo\n"
    page.write_text(new)
    assert page_tables.filled(page, {"a": "| new |\n"}) == new
    for text in ("none", 2 * new, "<!-- /table:a -->\n<!-- table:a -->\n"):
        page.write_text(text)
        with pytest.raises(ValueError, match="no place for the table 'a'"):
            page_tables.filled(page, {"a": ""})


def test_every_link_of_a_page_has_words() -> None:
    """Sphinx would put a page's title into an empty one; other readers show nothing."""
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    assert [page.name for page in pages if re.search(r"(?<!!)\[\]\(", page.read_text(encoding="utf-8"))] == []


def _records(preset: str, dataset: str) -> int:
    """Runs in the store, experiments aside; of a run made anew it may have two records."""
    lines = map(json.loads, (REPOSITORY / "results" / preset / dataset / "records.jsonl").read_text().splitlines())
    runs = {tuple(line[name] for name in ("arch", "method", "variant", "seed")) for line in lines}
    return sum(method not in ("estimator-error", "random-removal") for _, method, _, _ in runs)
