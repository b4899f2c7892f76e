"""A figure as SVG within a page: text stays text, greys become the page's own colours, no id is met twice."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from opd_bench.reporting.drawing import styled

Element = ElementTree.Element
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
NEUTRAL = ((0x40, "ink"), (0xB0, "dim"), (0xF7, "line"), (0xFF, "paper"))
"""Greys up to this light are the page's …"""
ROOT = "width:100%;height:auto;fill:var(--ink);stroke-linejoin:round;stroke-linecap:butt"
HALO = "paint-order:stroke;stroke:var(--paper);stroke-width:2.5px"
PREFIX = "\ue000"
"""Stands for a picture's own prefix of ids; no text has it."""
SPACE = 2.0
"""Left free above the axes, where the title was, in points."""


SMALL = 10


class Words(NamedTuple):
    """What is said of a picture, and the prefix of its ids."""

    prefix: str
    title: str
    alt: str


class Shared(NamedTuple):
    """Of a picture that is one of many: whose it is, and the id of what all have, which the first alone holds."""

    method: str
    address: str
    is_first: bool


def inline(figure: Figure, words: Words, methods: Mapping[str, str]) -> str:
    """The SVG, without the figure's own title; artists whose gid is among `methods` say which method they show."""
    return written(prepared(figure, methods), words)


def prepared(figure: Figure, methods: Mapping[str, str]) -> Element:
    """All but its words, to be written once or several times."""
    drawn = ElementTree.fromstring(_drawn(figure))
    used = {name for element in drawn.iter() for value in element.attrib.values() for name in _referred(value)}
    drawn[:] = [child for child in drawn if child.tag != f"{SVG}metadata" and child.find(f"{SVG}style") is None]
    for element in list(drawn.iter()):
        _clean(element, used, methods)
    shared = Element(f"{SVG}defs")
    root = Element(f"{SVG}svg", {"viewBox": _frame(figure), "width": "100%", "role": "img", "style": ROOT})
    root[:] = [shared, *_flat(drawn, shared)]
    return root


def written(root: Element, words: Words, of: Shared | None = None) -> str:
    """With title and description; of the artists that show a method only those of one, if one is said."""
    page = Element(root.tag, root.attrib | {"aria-labelledby": f"{PREFIX}title {PREFIX}desc"})
    shared, *parts = root
    kept = parts if of is None else _own(parts, of)
    used = {
        name
        for part in kept
        for element in part.iter()
        for value in element.attrib.values()
        for name in _referred(value)
    }
    own = Element(shared.tag)
    own[:] = [element for element in shared if element.get("id") in used]
    page[:] = [_text("title", words.title), _text("desc", words.alt), own, *kept]
    ElementTree.register_namespace("", SVG[1:-1])
    return ElementTree.tostring(page, encoding="unicode").replace(PREFIX, f"{words.prefix}-")


def _own(parts: Sequence[Element], of: Shared) -> list[Element]:
    """What all have or where it is, and above it the artists of one method."""
    group = Element(f"{SVG}g", {"id": of.address})
    group[:] = [part for part in parts if part.get("data-method") is None]
    below = group if of.is_first else Element(f"{SVG}use", {"href": f"#{of.address}"})
    return [below, *(part for part in parts if part.get("data-method") == of.method)]


def _text(tag: str, text: str) -> Element:
    element = Element(f"{SVG}{tag}", {"id": f"{PREFIX}{tag}"})
    element.text = text
    return element


def _drawn(figure: Figure) -> str:
    """Without halos, which would turn text into shapes, and without the title, which the page has."""
    haloed = {text: text.get_path_effects() for text in figure.findobj(Text) if text.get_path_effects()}
    title, content = figure._suptitle, io.StringIO()  # type: ignore[attr-defined]
    for text in haloed:
        text.set_path_effects([])
    title.set_visible(False)
    with styled(), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    title.set_visible(True)
    for text, effects in haloed.items():
        text.set_path_effects(effects)
    return content.getvalue()


def _frame(figure: Figure) -> str:
    """All of it but the title, in points."""
    wide, high = (72 * float(side) for side in figure.get_size_inches())
    title = figure._suptitle  # type: ignore[attr-defined]
    top = 72 * (figure.bbox.height - float(title.get_window_extent().y0)) / figure.dpi - SPACE
    return f"0 {_short(top)} {_short(wide)} {_short(high - top)}"


def _clean(element: Element, used: set[str], methods: Mapping[str, str]) -> None:
    """Short numbers, own ids, the page's colours."""
    own, element.tail = dict(element.attrib), None
    element.text = element.text if element.tag == f"{SVG}text" else None
    element.attrib.clear()
    for name, value in own.items():
        if name == "id" and value in methods:
            _of_method(element, methods[value])
        elif name == "id" and value in used:
            element.set("id", PREFIX + value)
        elif name == LINK:
            element.set("href", f"#{PREFIX}{value[1:]}")
        elif name == "style":
            element.set("style", _style(value))
        elif name == "clip-path":
            element.set(name, value.replace("url(#", f"url(#{PREFIX}"))
        elif name == "d":
            element.set(name, _path(value))
        elif name != "id" and not value.startswith("rotate(-0 "):
            element.set(name, re.sub(r"-?\d+\.\d+", _rounded, value))
    if element.tag == f"{SVG}text":
        element.text = (element.text or "").replace("⚠", "⚠\ufe0e")  # as text and not as a small picture


def _of_method(element: Element, method: str) -> None:
    """Whose it is, also for who points at it. Names lie on lines, so they have a halo."""
    element.set("data-method", method)
    title = Element(f"{SVG}title")
    title.text = method
    for text in element.iter(f"{SVG}text"):
        text.set("style", f"{text.get('style', '')}; {HALO}")
    element.insert(0, title)


def _style(style: str) -> str:
    """The page's font and colours."""
    kept = [part.strip() for part in style.split(";") if part.strip() and not part.strip().startswith("font-family")]
    text = ";".join(re.sub(r"\d+\.\d+", _rounded, re.sub(r":\s+", ":", part)) for part in kept)
    return re.sub(r"#([0-9a-f]{2})\1\1\b", lambda grey: f"var(--{_neutral(int(grey[1], 16))})", text)


def _neutral(light: int) -> str:
    return next(name for most, name in NEUTRAL if light <= most)


def _path(text: str) -> str:
    """Lines to several points need one letter."""
    letters, result = "", []
    for letter, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", text):
        numbers = " ".join(_short(float(number)) for number in rest.split())
        result.append(f" {numbers}" if letter == letters == "L" else letter + numbers)
        letters = letter
    return "".join(result)


def _rounded(found: re.Match[str]) -> str:
    return _short(float(found[0]))


def _short(number: float) -> str:
    """Small shapes need two decimals; of places, a tenth of a point is nothing."""
    text = f"{number:.{2 if abs(number) < SMALL else 1}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _referred(value: str) -> Iterator[str]:
    """Ids that an attribute refers to."""
    yield from re.findall(r"url\(#([^)]+)\)", value)
    if value.startswith("#"):
        yield value[1:]


def _flat(element: Element, shared: Element) -> list[Element]:
    """What is in it, without groups that say nothing; definitions go to the shared ones."""
    found: list[Element] = []
    for child in element:
        inner = _flat(child, shared)
        if child.tag == f"{SVG}defs":
            shared.extend(inner)
        elif child.tag == f"{SVG}g" and not child.attrib:
            found += inner
        else:
            child[:] = inner
            found.append(child)
    return found
