"""What the pages say of files, rooms and messages is so."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_layers import STAIRS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
GAP = "…"


@cache
def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in LINK.findall(prose):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_the_link_test_sees_links_and_headings():
    readme = (ROOT / "README.md").read_text()
    assert len([link for link in LINK.findall(readme) if not link.startswith("http")]) > 15
    assert {"add-your-own-method", "two-commands"} <= anchors(ROOT / "README.md")
    assert "exact-moments" not in anchors(ROOT / "PROTOCOL.md")


def test_every_room_is_in_the_table_of_the_architecture_at_its_stair():
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = {}
    for stair, rooms in re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE):
        found |= dict.fromkeys((re.sub(r"/|\.py", "", room) for room in re.findall(r"`([^`]+)`", rooms)), int(stair))
    assert found == {room: level for level, rooms in enumerate(STAIRS, 1) for room in rooms}


def texts() -> Iterator[str]:
    """All that the package may say: every string, its variable parts as a gap, and the Makefile."""
    yield from (ROOT / "Makefile").read_text().replace("$(BOARD)", GAP).splitlines()
    for path in sorted((ROOT / "opd_bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str() as value):
                    yield value
                case ast.JoinedStr(values=parts):
                    yield "".join(part.value if isinstance(part, ast.Constant) else GAP for part in parts)


def test_every_message_that_is_quoted_is_in_the_source():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 50
    said = set(texts())
    for message in quoted:
        assert len(message.replace(GAP, "")) >= 12, f"too little of it to be known by: {message}"
        assert any(has_in_order(text, message.split(GAP)) for text in said), message


def has_in_order(text: str, parts: list[str]) -> bool:
    place = 0
    for part in parts:
        if (place := text.find(part, place)) < 0:
            return False
        place += len(part)
    return True
