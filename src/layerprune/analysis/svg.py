"""matplotlib's SVG, a third of the size and of the same look: what is repeated is said once, places are rounded.

Styles that repeat become classes, lines of one style in a row become one path, ids that nothing refers to and groups
that say nothing go, places are rounded to tenths of a point (shapes of marks, which are small, to hundredths). Text
stays text, so that it can be searched for.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, product
from string import ascii_lowercase
from xml.etree import ElementTree as tree

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF, _CLIP = f"{{{_XLINK}}}href", "clip-path"
_NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
_REFERENCE = re.compile(r"#([\w.-]+)")
_PLACES = ("d", "x", "y", "width", "height", "transform", "points")
_UNTURNED = re.compile(r"rotate\(-?0(?:\.0*)?[ ,][^)]*\)")


def smaller(text: str) -> str:
    """The same picture in fewer bytes; the same bytes for the same picture."""
    tree.register_namespace("", _SVG)
    tree.register_namespace("xlink", _XLINK)
    root = tree.fromstring(text)
    for element in list(root.iter()):
        _tidy(element)
    for child in root:
        _round(child, digits=1)
    _rename(root)
    _unwrap(root)
    _join_lines(root)
    _classify(root)
    return tree.tostring(root, encoding="unicode") + "\n"


def _tidy(element: tree.Element) -> None:
    """Without metadata, white space between elements, styles that are overruled, and turns by nothing."""
    for child in element.findall(f"{{{_SVG}}}metadata"):
        element.remove(child)
    if not (element.text or "").strip():
        element.text = None
    element.tail = None
    if element.tag == f"{{{_SVG}}}defs":
        for shape in element.findall(f"{{{_SVG}}}path"):  # of a mark: each use of it has the whole style
            shape.attrib.pop("style", None)
    if _UNTURNED.fullmatch(element.get("transform", "")):
        del element.attrib["transform"]
    if "style" in element.attrib:
        element.set("style", re.sub(r"\s*([:;])\s*", r"\1", element.get("style")).strip("; "))


def _round(element: tree.Element, digits: int) -> None:
    """Round every place; shapes of marks are measured in few points, and so more exactly."""
    digits = 2 if element.tag == f"{{{_SVG}}}defs" else digits
    for name in _PLACES:
        if name in element.attrib:
            element.set(name, _rounded(element.get(name), 4 if name == "transform" else digits))
    if "d" in element.attrib:
        element.set("d", _short_path(element.get("d")))
    for child in element:
        _round(child, digits)


def _rounded(text: str, digits: int) -> str:
    return _NUMBER.sub(
        lambda number: f"{round(float(number[0]), digits) + 0.0:.{digits}f}".rstrip("0").rstrip("."), text
    )


def _short_path(path: str) -> str:
    """A line's letter once for all its points."""
    words, letter = [], ""
    for command, places in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        implied = command == letter == "L"
        words.append((" " if implied else command) + " ".join(places.split()))
        letter = command
    return "".join(words)


def _rename(root: tree.Element) -> None:
    """Short ids, in their order, for what is referred to; none for the rest."""
    used = {name for element in root.iter() for value in element.attrib.values() for name in _REFERENCE.findall(value)}
    names = _names()
    short = {e.get("id"): next(names) for e in root.iter() if e.get("id") in used}
    for element in root.iter():
        if identity := element.attrib.pop("id", None):
            element.attrib |= {"id": short[identity]} if identity in short else {}
        for name in (_CLIP, _HREF, "style"):
            if name in element.attrib:
                element.set(name, _REFERENCE.sub(_new_name(short), element.get(name)))


def _new_name(short: dict[str, str]) -> Callable[[re.Match], str]:
    return lambda found: f"#{short.get(found[1], found[1])}"  # colours have the form of a reference


def _names() -> Iterator[str]:
    """a, b, ... z, aa, ab, ..."""
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))


def _unwrap(element: tree.Element) -> None:
    """Groups without attributes give way to what they hold."""
    held = []
    for child in element:
        _unwrap(child)
        plain = child.tag in (f"{{{_SVG}}}g", f"{{{_SVG}}}defs") and not child.attrib
        held += [child] if not plain or (child.tag.endswith("defs") and len(child)) else list(child)
    element[:] = held


def _join_lines(element: tree.Element) -> None:
    """Opaque lines in a row that differ in their places alone: one path, which looks the same."""
    joined: list[tree.Element] = []
    for child in element:
        _join_lines(child)
        if joined and _is_line(child) and _but_places(child) == _but_places(joined[-1]) and not child.tail:
            joined[-1].set("d", joined[-1].get("d", "") + child.get("d", ""))
        else:
            joined.append(child)
    element[:] = joined


def _is_line(element: tree.Element) -> bool:
    style = element.get("style", "")
    return element.tag == f"{{{_SVG}}}path" and "fill:none" in style and "opacity" not in style


def _but_places(element: tree.Element) -> tuple[str, dict[str, str]]:
    return element.tag, {name: value for name, value in element.items() if name != "d"}


def _classify(root: tree.Element) -> None:
    """Styles that repeat are said once, in the order in which they come, and so are what things are cut to."""
    counts = Counter(each for element in root.iter() for each in _said(element))
    names = _names()
    classes = {each: next(names) for each, times in counts.items() if times > 1}
    for element in root.iter():
        short = [classes[each] for each in _said(element) if each in classes]
        for name, value in list(element.items()):
            if (name, value) in classes:
                del element.attrib[name]
        if short:
            element.set("class", " ".join(short))
    sheet = next(root.iter(f"{{{_SVG}}}style"))
    rules = (
        f".{short}{{{value if name == 'style' else f'{name}:{value}'}}}" for (name, value), short in classes.items()
    )
    sheet.text = " ".join((sheet.text or "").split()) + "".join(rules)


def _said(element: tree.Element) -> list[tuple[str, str]]:
    """What of an element may be said in a class."""
    return [(name, element.get(name, "")) for name in ("style", _CLIP) if element.get(name)]
