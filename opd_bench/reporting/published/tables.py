"""Published numbers for the terminal and as Markdown, alone or with ours beside them. The order is the paper's."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from opd_bench.reporting.cells import NAMED, figure, grid, safe
from opd_bench.reporting.published.comparison import Comparison
from opd_bench.reporting.published.grouped import Group, metrics
from opd_bench.reporting.published.setups import NOT_APPLICABLE

PAPER = "in the paper"
NEVER = "In the paper's order; another set-up than ours, so never in one ranking with our numbers."
PAIRED = f"paper / here. {NEVER}"
NAMES, GAP = 24, 3
"""Columns that a paper's name of a method may take, and those between two columns."""


class Sheet(NamedTuple):
    """A table as text: a paper's names, ours, and a cell for each method and metric."""

    title: str
    metrics: list[str]
    rows: list[tuple[str, str, list[str]]]  # the paper's name, ours, cells
    notes: list[str]


def terminal(group: Group, width: int) -> list[Table | Text]:
    """For people at a terminal: as many tables, one below the other, as the metrics need, then the notes."""
    return _terminal(_sheet(group), width)


def markdown(found: Iterable[Group]) -> str:
    """Every table with its notes, what our methods do otherwise, and the set-up."""
    return "# Published numbers\n\n" + "\n".join(_section(_sheet(group), _setup(group)) for group in found)


def setup_terminal(group: Group) -> Table:
    """How a paper ran it."""
    return _left(grid(f"Set-up of {group.title}", "", ("field", PAPER), _setup(group)[1:]))


def beside_terminal(comparison: Comparison, width: int) -> list[Table | Text]:
    """The paper's numbers and ours, then the differences in set-up."""
    head, *rows = differing(comparison)
    return [*_terminal(pairs(comparison), width), _left(grid("Differences in set-up", "", head, rows))]


def beside_markdown(found: Iterable[Comparison]) -> str:
    """The same as Markdown."""
    return "# Paper beside here\n\n" + "\n".join(_section(pairs(one), differing(one)) for one in found)


# ---------------------------------------------------------------- what is shown


def shown(values: Sequence[float | None], metric: str) -> list[str]:
    """A column's numbers as printed, percentages and seconds with the same number of decimals."""
    if metrics()[metric].unit in ("number", "share"):
        return ["—" if value is None else f"{value:.6g}" for value in values]
    decimals = max(len(str(value).partition(".")[2]) for value in values if value is not None)
    return ["—" if value is None else f"{value:.{decimals}f}" for value in values]


def _sheet(group: Group) -> Sheet:
    columns = [shown(column, name) for name, column in zip(group.metrics, zip(*group.values, strict=True), strict=True)]
    rows = zip(group.methods, group.our_names, map(list, zip(*columns, strict=True)), strict=True)
    return Sheet(group.title, group.metrics, list(rows), [NEVER, *_notes(group)])


def pairs(comparison: Comparison) -> Sheet:
    """A metric that was not measured here has no column, unless none was."""
    group, alone = comparison.group, _sheet(comparison.group)
    ours = {(row.paper_method, row.metric): row.here for row in comparison.rows}
    kept = [name for name in group.metrics if any(ours.get((method, name)) is not None for method in group.methods)]
    rows = [
        (
            theirs,
            name,
            [_pair(c, ours.get((theirs, m))) for m, c in zip(group.metrics, cells, strict=True) if m in kept],
        )
        for theirs, name, cells in alone.rows
    ]
    left_out = ", ".join(name for name in group.metrics if name not in kept)
    notes = [PAIRED, *([f"Not measured here: {left_out}."] if left_out else []), *_notes(group)]
    return Sheet(group.title, kept, rows, notes) if kept else alone._replace(notes=notes)


def _pair(paper: str, ours: float | None) -> str:
    """Ours with as many decimals as theirs."""
    decimals = len(paper.partition(".")[2])
    return f"{paper} / " + (figure(None) if ours is None else f"{ours:.{decimals}f}")


def _notes(group: Group) -> Iterator[str]:
    if group.sources != ["paper"]:
        yield f"Source: {', '.join(group.sources)}."
    yield from group.remarks
    for counterpart in group.counterparts:
        if counterpart.note:
            yield f"{counterpart.name}: {counterpart.note}."


def _setup(group: Group) -> list[tuple[str, ...]]:
    return [("field", PAPER), *((f, s.text) for f, s in group.setup.items() if s.value != NOT_APPLICABLE)]


def differing(comparison: Comparison) -> list[tuple[str, ...]]:
    """Field, paper and here, under such a head."""
    return [("field", PAPER, "here"), *comparison.differences]


# ---------------------------------------------------------------- how


def _terminal(sheet: Sheet, width: int) -> list[Table | Text]:
    """The first table has the title; the notes are below the last."""
    result: list[Table | Text] = []
    for piece in _pieces(sheet, width):
        heads = ["\n".join(sheet.metrics[at].rsplit("_", 1)) for at in piece]
        rows = [(theirs, ours, *(cells[at] for at in piece)) for theirs, ours, cells in sheet.rows]
        result.append(_narrow(grid("" if result else sheet.title, "", (PAPER, NAMED, *heads), rows)))
    return [*result, Text("\n".join(f"- {note}" for note in sheet.notes) + "\n")]


def _pieces(sheet: Sheet, width: int) -> Iterator[range]:
    """Runs of metrics that fit beside the names, at least one."""
    names = min(NAMES, max(len(row[0]) for row in sheet.rows)) + max(len(row[1]) for row in sheet.rows) + 3 * GAP
    sizes = [GAP + max(_width(name), *(len(row[2][at]) for row in sheet.rows)) for at, name in enumerate(sheet.metrics)]
    start = 0
    while start < len(sizes):
        fitting = sum(total <= width - names for total in accumulate(sizes[start:]))
        yield range(start, start + max(1, fitting))
        start += max(1, fitting)


def _width(metric: str) -> int:
    return max(map(len, metric.rsplit("_", 1)))


def _narrow(table: Table) -> Table:
    """Long names go over several lines, numbers never."""
    table.columns[0].justify, table.columns[0].max_width = "left", NAMES
    for column in table.columns[2:]:
        column.no_wrap = True
    return table


def _left(table: Table) -> Table:
    for column in table.columns:
        column.justify = "left"
    return table


def _section(sheet: Sheet, below: list[tuple[str, ...]]) -> str:
    rows = [(theirs, ours, *cells) for theirs, ours, cells in sheet.rows]
    lines = [f"## {safe(sheet.title)}\n", *_table((PAPER, NAMED, *sheet.metrics), rows, 2), ""]
    lines += [*(f"- {safe(note)}" for note in sheet.notes), "", *_table(below[0], below[1:], len(below[0]))]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> Iterator[str]:
    """The first columns to the left, the others to the right."""
    yield f"| {' | '.join(map(safe, head))} |"
    yield f"|{'---|' * left}{'---:|' * (len(head) - left)}"
    yield from (f"| {' | '.join(map(safe, row))} |" for row in rows)
