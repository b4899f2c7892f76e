"""The one picture that answers which method: what each solves in every setting, the settings side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opd_bench.reporting.drawing import blank, fix, share_axis, styled
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import COLOURS, GREY, INK, WRONG, is_reference, named, plain
from opd_bench.reporting.plots.words import QUIET, accuracy
from opd_bench.reporting.protocol import REFERENCE
from opd_bench.reporting.top import Entry, entries, unranked

WIDE, LINE, AROUND = 6.0, 0.175, 1.5
"""Inches: at the usual 150 dots, 900 pixels; a method's line; what is above and below the axes."""
FIRST = COLOURS[0]
STRIPE = "0.965"
SMALL = 8
"""Points of a name."""
NOTE = (
    "Means over seeds, with 95 % intervals; below the line, not ranked. The numbers are bands: methods of one band "
    "can't be told from its best. Blue: the first band. Black: the reference {reference}. ⚠: known to be wrong. "
    "Dashed: the untrained student; dotted: the teacher."
)


def overview(tables: Mapping[str, Table]) -> Figure:
    """A line a method, the best above; below, what is not ranked."""
    ranked = entries(tables)
    drawn = [*ranked, *unranked(tables)]
    with styled(QUIET):
        notes = [NOTE.format(reference=REFERENCE)]
        figure, all_axes = blank("", (WIDE, AROUND + LINE * len(drawn)), len(tables))
        for number, (axes, (setting, table)) in enumerate(zip(all_axes, tables.items(), strict=True)):
            _panel(axes, table, [entry.rows[number] for entry in drawn])
            axes.axhline(len(ranked) - 0.5, color="0.5", linewidth=0.9)
            axes.set_title(f"{plain(setting)}: solved, %", loc="left", fontsize=9)
            axes.set_yticks(range(len(drawn)), [_name(entry) for entry in drawn] if not number else [], fontsize=SMALL)
        fix(figure, notes)
    return figure


def _panel(axes: Axes, table: Table, rows: Sequence[Row | None]) -> None:
    guides = [(row.accuracy.mean, dash) for row, dash in zip(table.anchors, ("--", ":"), strict=False)]
    known = [row for row in rows if row is not None and row.accuracy.mean is not None]
    ends = [end for row in known for end in accuracy(row)]
    share_axis(axes, "x", [*ends, *(100 * value for value, _ in guides if value is not None)])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for place in range(1, len(rows), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=STRIPE, zorder=0)
    for value, dash in guides:
        if value is not None:
            axes.axvline(100 * value, color="0.5", linewidth=0.9, linestyle=dash, zorder=1)
    for place, row in enumerate(rows):
        if row is not None and row.accuracy.mean is not None:
            _mark(axes, place, row)


def _mark(axes: Axes, place: int, row: Row) -> None:
    own, colour = accuracy(row), _colour(row)
    style: dict[str, Any] = {"color": colour, "zorder": 3}
    if math.isfinite(own.low) and math.isfinite(own.high):
        axes.plot([own.low, own.high], [place, place], linewidth=1.4, solid_capstyle="butt", **style)
    axes.plot([own.value], [place], "X" if row.warning else "o", markersize=5, markeredgewidth=0, **style)
    if row.band is not None:
        at: dict[str, Any] = {"xy": (1, place), "xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate(str(row.band), xytext=(4, 0), va="center", size=SMALL, color=colour, **at)


def _colour(row: Row) -> str:
    if row.warning:
        return WRONG
    return FIRST if row.band == 1 else INK if is_reference(row) else GREY


def _name(entry: Entry) -> str:
    return named(next(row for row in entry.rows if row is not None))
