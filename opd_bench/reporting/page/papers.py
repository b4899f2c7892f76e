"""A paper's own numbers beside ours, and what was not the same: in the paper's order, never a ranking."""

from collections.abc import Sequence

from opd_bench.reporting.page.board import scrolling
from opd_bench.reporting.page.markup import Markup, joined, tag
from opd_bench.reporting.published import Comparison, differing, pairs


def beside(comparison: Comparison) -> Markup:
    """Both tables, each with a caption, and the notes."""
    sheet = pairs(comparison)
    head = ["in the paper", "METHOD", *sheet.metrics]
    numbers = _table(sheet.title, head, [[theirs, ours, *cells] for theirs, ours, cells in sheet.rows])
    first, *rows = differing(comparison)
    notes = tag("ul", *(tag("li", note) for note in sheet.notes))
    parts = [tag("h3", "Paper beside here"), numbers, notes, tag("h4", "Differences in set-up")]
    return tag("div", joined(parts), _table("Differences in set-up", first, rows), class_="papers")


def _table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col", class_="text") for cell in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell, class_="text") for cell in row)) for row in rows))
    return scrolling(tag("table", tag("caption", name, class_="unseen"), top, body), name, "scroll")
