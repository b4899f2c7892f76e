"""HTML that is safe by the way it is made: a plain string is always shown as text, and only `tag` makes a tag."""

import re
from collections.abc import Iterable
from html import escape

EMPTY = ("input", "br")
"""Tags that have no content."""


class Markup(str):
    """HTML, as against text."""

    __slots__ = ()


def text(value: str) -> Markup:
    """As it is if it is HTML already; else with everything escaped that HTML would take for its own."""
    return value if isinstance(value, Markup) else Markup(escape(value))


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """One after the other."""
    return Markup(text(between).join(map(text, parts)))


def tag(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element. Of attributes, `aria_label` is aria-label, True has no value, and None and False are left out."""
    own = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{own}>" if name in EMPTY else f"<{name}{own}>{joined(children)}</{name}>")


def slugs(names: Iterable[str]) -> list[str]:
    """A readable address within the page for each, no two the same."""
    taken: set[str] = set()
    found = []
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-")[:80] or "row"
        found.append(next(own for own in _numbered(slug) if own not in taken))
        taken.add(found[-1])
    return found


def _numbered(slug: str) -> Iterable[str]:
    yield slug
    number = 2
    while True:
        yield f"{slug}-{number}"
        number += 1


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
