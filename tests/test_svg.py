"""A picture in fewer bytes is the same picture: every point, colour and word of it."""

import io
import re
from xml.etree import ElementTree as tree

import pytest
from matplotlib.figure import Figure

from layerprune.analysis import style, svg

SVG = "http://www.w3.org/2000/svg"
NAMES = {"": SVG}
HREF = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(scope="module")
def both() -> tuple[str, str]:
    """A figure with lines, marks, cells, a hatch and words: as matplotlib writes it, and smaller."""
    with style.applied():
        figure = Figure(figsize=(4, 3))
        ax = figure.add_subplot(title="title & words", xlabel="-0.5 of it")
        ax.plot([0, 1, 2, 3], [0.123456, 1.5, -2, 3], color="#D55E00")
        ax.plot([0, 1, 2], [1, 2, 3], marker="o", color="#0072B2", markeredgecolor="white", linestyle="none")
        ax.pcolormesh([[1, 2], [3, 4]], cmap="Greys")
        ax.bar([1], [1], hatch="////", facecolor="none", edgecolor="#009E73")
        ax.annotate("turned", (1, 1), rotation=90)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue(), svg.smaller(stream.getvalue())


def elements(text: str, name: str) -> list[tree.Element]:
    return tree.fromstring(text).findall(f".//{name}", NAMES)


def css(root: tree.Element) -> dict[tree.Element, str]:
    """What is said of every element: written out, and by its classes; without spaces, and what references lead to."""
    sheet = root.find(".//style", NAMES)
    classes = dict(re.findall(r"\.(\w+)\{([^}]*)\}", sheet.text))
    found = {}
    for each in root.iter():
        clip = f"clip-path:{each.get('clip-path')}" if each.get("clip-path") else ""
        said = [each.get("style", ""), *(classes[name] for name in each.get("class", "").split()), clip]
        rules = (re.sub(r"\s+|url\([^)]*\)", "", rule) for text in said for rule in text.split(";"))
        found[each] = ";".join(sorted(filter(None, rules)))
    return found


def strokes(text: str) -> list[tuple[str, str, list[float]]]:
    """Style, letters and points of everything that is drawn without lifting the pen, in order; marks aside."""
    root = tree.fromstring(text)
    said, marks, found = css(root), root.findall(".//defs//path", NAMES), []
    for path in (each for each in root.findall(".//path", NAMES) if each not in marks):
        for stroke in re.findall("M[^M]*", path.get("d")):
            found.append((said[path], re.sub("[^MCQz]", "", stroke), numbers(stroke)))
    return found


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]


def test_it_is_less_than_half_and_the_same_each_time(both: tuple[str, str]) -> None:
    before, after = both
    assert len(after) < len(before) / 2
    assert svg.smaller(before) == after and "\n" not in after.strip() and "metadata" not in after


def test_every_word_stays_a_word_where_it_was(both: tuple[str, str]) -> None:
    before, after = ([(each.text, numbers(each.get("x", ""))) for each in elements(text, "text")] for text in both)
    assert [word for word, _ in after] == [word for word, _ in before] and ("turned" in dict((w, 0) for w, _ in after))
    assert [x for _, x in after] == [pytest.approx(x, abs=0.051) for _, x in before]
    turned = [each.get("transform", "") for each in elements(both[1], "text")]
    assert sum("rotate(-90" in each for each in turned) == 1
    assert not any(each.startswith("rotate(-0") for each in turned)


def test_every_line_keeps_its_points_to_a_tenth_of_a_point_and_its_style(both: tuple[str, str]) -> None:
    before, after = map(strokes, both)
    assert [each[:2] for each in after] == [each[:2] for each in before] and len(after) > 10
    for (*_, old), (*_, new) in zip(before, after, strict=True):
        assert new == pytest.approx(old, abs=0.051)


def test_only_opaque_lines_in_a_row_become_one_path() -> None:
    line, faint = "fill:none;stroke:#000000", "fill:none;stroke:#000000;stroke-opacity:0.5"
    drawn = [("M0 0L1 1", line), ("M2 2L3 3", line), ("M0 0L1 1", faint), ("M2 2L3 3", faint)]
    drawn += [("M4 4z", "fill:#ff0000"), ("M5 5z", "fill:#ff0000"), ("M6 6L7 7", line)]
    paths = "".join(f'<path d="{d}" style="{style}"/>' for d, style in drawn)
    after = svg.smaller(f'<svg xmlns="{SVG}"><defs><style type="text/css"></style></defs>{paths}</svg>')
    wanted = ["M0 0L1 1M2 2L3 3", "M0 0L1 1", "M2 2L3 3", "M4 4z", "M5 5z", "M6 6L7 7"]
    assert [each.get("d") for each in elements(after, "path")] == wanted


def test_every_mark_keeps_its_place_and_its_colours(both: tuple[str, str]) -> None:
    roots = [tree.fromstring(text) for text in both]
    before, after = (
        [(css(root)[each], float(each.get("x"))) for each in root.findall(".//use", NAMES)] for root in roots
    )
    assert [said for said, _ in after] == [said for said, _ in before] and len(after) > 3
    assert [x for _, x in after] == pytest.approx([x for _, x in before], abs=0.051)


def test_every_reference_leads_to_something_and_no_name_leads_nowhere(both: tuple[str, str]) -> None:
    root = tree.fromstring(both[1])
    names = [each.get("id") for each in root.iter() if each.get("id")]
    used = {each.get(HREF).removeprefix("#") for each in root.iter() if each.get(HREF)}
    used |= set(re.findall(r"url\(#(\w+)\)", both[1]))
    assert len(names) == len(set(names)) and set(names) == used and len(used) > 3


def test_colours_that_look_like_references_stay(both: tuple[str, str]) -> None:
    assert "#d55e00" in both[1] and "#009e73" in both[1]
