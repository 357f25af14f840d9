"""A picture in fewer bytes is the same picture: every point, colour and word of it."""

import io
import re
from xml.etree import ElementTree as tree

import pytest
from matplotlib.figure import Figure

from layerprune.analysis import style, svg

NAMES = {"": "http://www.w3.org/2000/svg"}
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


def styles(text: str) -> list[str]:
    """The style of every element that has one, in order: written out, or by its class."""
    (sheet,) = elements(text, "style")
    classes = dict(re.findall(r"\.(\w+)\{([^}]*)\}", sheet.text))
    found = [each.get("style") or classes.get(each.get("class")) for each in tree.fromstring(text).iter()]
    return [re.sub(r"\s+|url\([^)]*\)", "", each).strip(";") for each in found if each]


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


def test_every_line_keeps_its_points_to_a_tenth_of_a_point(both: tuple[str, str]) -> None:
    before, after = (elements(text, "path") for text in both)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert numbers(new.get("d")) == pytest.approx(numbers(old.get("d")), abs=0.051)
        assert [each for each in new.get("d") if each in "MCQz"] == [each for each in old.get("d") if each in "MCQz"]


def test_every_mark_keeps_its_place_and_every_element_its_colours(both: tuple[str, str]) -> None:
    before, after = both
    places = [[float(each.get("x")) for each in elements(text, "use")] for text in both]
    assert places[1] == pytest.approx(places[0], abs=0.051)
    uses = [re.sub(r"\s", "", each.get("style")) for each in elements(before, "use")]
    assert [each for each in styles(after) if each in uses] and set(uses) <= set(styles(after))
    drawn = {each for each in styles(before) if "fill" in each}
    assert drawn <= set(styles(after))


def test_every_reference_leads_to_something_and_no_name_leads_nowhere(both: tuple[str, str]) -> None:
    root = tree.fromstring(both[1])
    names = [each.get("id") for each in root.iter() if each.get("id")]
    used = {each.get(HREF).removeprefix("#") for each in root.iter() if each.get(HREF)}
    used |= set(re.findall(r"url\(#(\w+)\)", both[1]))
    assert len(names) == len(set(names)) and set(names) == used and len(used) > 3


def test_colours_that_look_like_references_stay(both: tuple[str, str]) -> None:
    assert "#d55e00" in both[1] and "#009e73" in both[1]
