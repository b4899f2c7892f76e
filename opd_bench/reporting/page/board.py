"""The table of one protocol, with what sorts and filters it."""

import math
from collections.abc import Mapping, Sequence

from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.page.columns import GROUPS, Cell, Column, columns
from opd_bench.reporting.page.markup import Markup, joined, tag
from opd_bench.reporting.page.values import NONE, distinct
from opd_bench.reporting.protocol import RANKED

ANCHORS = {"(student before)": "untrained student", "(teacher)": "teacher"}
BAND = "Methods of one band can't be told from its best: their paired 95 % interval to it covers 0."


def board(table: Table, address: str, sections: Mapping[str, str]) -> Markup:
    """Controls, the table in a region that scrolls by itself, and what its columns mean."""
    found = columns(table)
    shown = tag("table", _caption(table), _head(found), _body(table, found, sections), _feet(table, found))
    region = scrolling(shown, f"Table of {table.title}")
    return tag("div", _controls(address, found), region, _meanings(found), class_="board")


def scrolling(table: Markup, name: str, classes: str = "scroll") -> Markup:
    """A region that can be wider than the page; arrow keys move it."""
    return tag("div", table, class_=classes, role="region", tabindex=0, aria_label=name)


def label(row: Row) -> str:
    """What a row is called."""
    return row.method if row.runs else ANCHORS.get(row.method, row.method)


def tags(row: Row) -> Markup:
    """Why a row is not ranked, and what failed."""
    failed = row.attempted - row.finished
    found = [
        tag("span", "⚠\ufe0e known wrong", class_="tag wrong") if row.warning else "",
        tag("span", f"check: {row.check}", class_="tag check") if row.check else "",
        tag("span", f"unranked: {row.finished} of {RANKED} seeds", class_="tag") if row.finished < RANKED else "",
        tag("span", f"{failed} failed", class_="tag failed") if failed else "",
    ]
    return joined([one for one in found if one], " ")


def _controls(address: str, found: Sequence[Column]) -> Markup:
    count = tag("p", class_="count", role="status", aria_live="polite")
    search = tag("input", type="search", class_="find", id=f"find:{address}", autocomplete="off", spellcheck="false")
    find = [tag("label", "Find a method", for_=f"find:{address}"), search]
    kinds = [_check("only-ranked", "ranked only"), _check("not-wrong", "hide known-wrong ⚠\ufe0e")]
    filters = tag("div", tag("div", *find, class_="search"), *kinds, count, class_="filters", hidden=True)
    hidden = {column.group for column in found} - {"first"}
    groups = [_check(f"show-{group}", name.lower()) for group, name in GROUPS.items() if group in hidden]
    more = tag("fieldset", tag("legend", "More columns"), *groups, class_="groups") if groups else ""
    return tag("div", filters, more, class_="controls")


def _check(kind: str, name: str) -> Markup:
    return tag("label", tag("input", type="checkbox", class_=kind), " ", name, class_="check")


def _caption(table: Table) -> Markup:
    return tag("caption", f"Methods under {table.title}. The buttons in the heads sort.", class_="unseen")


def _head(found: Sequence[Column]) -> Markup:
    band = _header("band", "ascending", "band", False, "ascending")
    method = _header("method", "ascending", "method text", True)
    return tag("thead", tag("tr", band, method, *map(_column, found)))


def _column(column: Column) -> Markup:
    return _header(column.name, column.first, f"{column.kind} {_hidden(column)}".strip(), column.kind == "text")


def _hidden(column: Column) -> str:
    """The class of columns that are shown when somebody asks."""
    return "" if column.group == "first" else f"of-{column.group}"


def _header(name: str, first: str, classes: str, is_text: bool, sorted_by: str | None = None) -> Markup:
    button = tag("button", name, type="button", data_first=first, data_text=is_text)
    return tag("th", button, scope="col", class_=classes, aria_sort=sorted_by)


def _body(table: Table, found: Sequence[Column], sections: Mapping[str, str]) -> Markup:
    return tag("tbody", *(_row(row, found, sections.get(row.method)) for row in table.rows), class_="methods")


def _feet(table: Table, found: Sequence[Column]) -> Markup:
    """The untrained models: they stay at the end, whatever the rest is sorted by."""
    return tag("tbody", *(_row(row, found, None) for row in table.anchors), class_="anchors")


def _row(row: Row, found: Sequence[Column], section: str | None) -> Markup:
    name = tag("a", label(row), href=f"#{section}") if section else tag("span", label(row))
    method = tag(
        "th", tag("span", name, class_="name"), " ", tags(row) if row.runs else "", scope="row", data_value=row.method
    )
    band = tag("td", NONE if row.band is None and row.runs else _number(row), class_="band", data_value=row.band)
    cells = [_cell(one, one.cell(row), bool(row.runs)) for one in found]
    kinds = [] if row.ranked or not row.runs else ["unranked"]
    kinds += ["warned"] if row.warning else []
    words = " ".join([row.method, *distinct(row.runs[:1], "method.title"), *distinct(row.runs[:1], "method.paper")])
    finds = words.lower() if row.runs else None
    return tag("tr", band, method, *cells, class_=" ".join(kinds) or None, data_find=finds)


def _number(row: Row) -> str:
    return "" if row.band is None else str(row.band)


def _cell(column: Column, cell: Cell, is_method: bool) -> Markup:
    """An untrained model has nothing in most columns, and that is no want."""
    shown = "" if cell.shown == NONE and not is_method else cell.shown
    kind = "" if column.kind == "number" else column.kind
    classes = f"{kind} {_hidden(column)}".strip()
    return tag("td", shown, class_=classes or None, data_value=_sortable(cell.value))


def _sortable(value: float | str | None) -> float | str | None:
    """As the script reads it; what is no number is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value).replace("inf", "Infinity")
    return f"{value:.9g}" if isinstance(value, float) else value


def _meanings(found: Sequence[Column]) -> Markup:
    words = [("band", BAND), *((column.name, column.meaning) for column in found)]
    pairs = [tag("div", tag("dt", name), tag("dd", meaning)) for name, meaning in words]
    return tag("details", tag("summary", "What the columns mean"), tag("dl", *pairs), class_="meanings")
