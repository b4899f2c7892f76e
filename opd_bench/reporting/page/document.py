"""All tables in one HTML page: no network, no other file, and nothing in it that a record could have put there."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import NamedTuple

from opd_bench.reporting import papers
from opd_bench.reporting.formats import TRIED
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.page.answer import answer, leaders
from opd_bench.reporting.page.board import board
from opd_bench.reporting.page.columns import columns
from opd_bench.reporting.page.facts import apart, complained, facts, gist, notes
from opd_bench.reporting.page.markup import Markup, joined, slugs, tag
from opd_bench.reporting.page.methods import Written, section
from opd_bench.reporting.page.papers import beside
from opd_bench.reporting.page.pictures import NoPlots, Plots, figure
from opd_bench.reporting.page.samples import samples

MOST = 100
"""Methods of a table that have a section."""
SEVERAL = "Each is ranked alone: tasks, models, training or evaluation differ, so their numbers can't be compared."
NOTHING = Markup()


class Making(NamedTuple):
    """What all parts of a page are made with."""

    tables: Sequence[Table]
    plots: Plots
    written: Written


def page(
    tables: Sequence[Table], complaints: Sequence[str], plots: Plots | None = None, written: Written = samples
) -> str:
    """The whole page; the same records give the same bytes."""
    tables = sorted(tables, key=_rank)
    addresses = slugs(table.title for table in tables)
    making = Making(tables, plots or NoPlots(), written)
    parts = [
        (_trials if table.of_trials else _protocol)(table, address, making)
        for table, address in zip(tables, addresses, strict=True)
    ]
    style, script = _asset("style.css"), _asset("script.js")
    content = {
        "policy": _policy(script),
        "style": style,
        "script": script,
        "navigation": _navigation(tables, addresses),
        "main": joined([*parts, _complaints(complaints)]),
    }
    whole = Template(_asset("template.html")).substitute(content)
    return whole.encode("utf-8", "replace").decode()  # half a character, which JSON may have, can't be written


def _rank(table: Table) -> tuple[bool, bool]:
    """What says most comes first."""
    return table.of_trials, not any(row.ranked for row in table.rows)


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Nothing is loaded, nothing is sent, and no script runs but the page's own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _navigation(tables: Sequence[Table], addresses: Sequence[str]) -> Markup:
    if len(tables) < 2:
        return NOTHING
    found = zip(tables, addresses, apart(tables), strict=True)
    links = [
        tag("li", tag("a", tag("b", name), tag("span", leaders(table)), tag("span", what), href=f"#{address}"))
        for table, address, what in found
        for name in [str(table.protocol["name"])]
    ]
    said = tag("p", tag("strong", f"{len(tables)} protocols."), f" {SEVERAL}")
    return tag("nav", said, tag("ul", *links), aria_label="Protocols")


def _trials(table: Table, address: str, making: Making) -> Markup:
    """How accuracy on the validation split depends on the learning rate; the runs behind it open when asked for."""
    said = f"{len(table.rows)} trials: no results, and not to be compared with any."
    parts = [
        tag("h2", str(table.protocol["name"])),
        tag("p", gist(table), class_="gist"),
        tag("p", tag("strong", "Trials. "), TRIED),
        _pictures(table, making),
        tag("details", tag("summary", said), board(table, address, {}), class_="facts"),
        _notes(table),
    ]
    return tag("section", *parts, class_="protocol", id=address, aria_label=table.title)


def _protocol(table: Table, address: str, making: Making) -> Markup:
    described = table.rows[:MOST]  # the ranked ones come first
    own = slugs(row.method for row in described)
    sections = {row.method: f"{address}:{slug}" for row, slug in zip(described, own, strict=True)}
    parts = [
        tag("h2", str(table.protocol["name"])),
        tag("p", gist(table), class_="gist"),
        answer(table),
        board(table, address, sections),
        tag("details", tag("summary", "What all of them share"), facts(table), class_="facts"),
        _notes(table),
        _pictures(table, making),
        beside(comparison) if (comparison := papers.comparison(table)) else NOTHING,
        _methods(table, described, sections, making),
    ]
    return tag("section", *parts, class_="protocol", id=address, aria_label=table.title)


def _notes(table: Table) -> Markup:
    return tag("div", tag("h3", "Notes"), notes(table), class_="notes") if table.notes else NOTHING


def _pictures(table: Table, making: Making) -> Markup:
    found = [figure(picture) for picture in making.plots.pictures(table, making.tables)]
    return tag("div", tag("h3", "Plots"), tag("div", *found, class_="pictures")) if found else NOTHING


def _methods(table: Table, described: Sequence[Row], sections: dict[str, str], making: Making) -> Markup:
    found = columns(table)
    said = f"Of {len(table.rows):,} rows the first {len(described)} are described here; the table has them all."
    left_out = tag("p", said, class_="quiet") if len(described) < len(table.rows) else NOTHING
    shown = [
        section(row, sections[row.method], found, making.plots.curves(table, row), making.written) for row in described
    ]
    return tag("div", tag("h3", "Methods"), left_out, *shown, class_="described")


def _complaints(complaints: Sequence[str]) -> Markup:
    if not complaints:
        return NOTHING
    said = tag("p", "These files are in no table.")
    return tag("section", tag("h2", "Damaged records"), said, complained(complaints), class_="complaints")
