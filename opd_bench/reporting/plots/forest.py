"""What each method gains over the reference, seed by seed; and how its accuracy depends on the learning rate."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from opd_bench.reporting.drawing import blank, fix, styled
from opd_bench.reporting.labels import SIZE
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import Look, few, left_out, looks
from opd_bench.reporting.plots.words import QUIET, WIDE, Drawing, heading, missing, percent, several, size, told
from opd_bench.reporting.probe_rows import Interval
from opd_bench.reporting.protocol import REFERENCE

TITLE = "Differences to the reference"
COLUMNS = 1.0
"""Width of the columns on the right, in inches."""


def differences(table: Table) -> Drawing | None:
    """A forest: one line a method, the largest gain first; then what is known to be wrong."""
    found = looks(table)
    drawn = few(table.rows, [method for method, look in found.items() if look.chosen])
    rows = [row for row in drawn if math.isfinite(percent(row.difference).value)]
    rows.sort(key=lambda row: (bool(row.warning), -percent(row.difference).value))
    if not rows:
        return None
    notes = [*_notes(rows), *left_out(table.rows, drawn), *_absent(drawn, rows)]
    with styled(QUIET):
        figure, (axes,) = blank(heading(TITLE, table), size(1.5 + 0.19 * len(rows), notes))
        figure.set_layout_engine("constrained", rect=(0, 0, 1 - COLUMNS / WIDE, 1))
        axes.set_xlabel(f"solved more than {REFERENCE}, percentage points   better →")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.axvline(0, color="0.5", linewidth=1)
        for place, row in enumerate(rows):
            _line(axes, place, row, found[row.method])
        axes.set_ylim(len(rows) - 0.4, -1.5)  # with a line for the heads of the columns
        axes.set_yticks(range(len(rows)), [found[row.method].name for row in rows], fontsize=SIZE)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        fix(figure, notes)
        _columns(axes, rows)
    parts = [f"{found[row.method].name} {told(percent(row.difference), '+')}" for row in rows]
    alt = f"Paired differences of accuracy to {REFERENCE} in percentage points [95 % interval]: {several(parts)}."
    return Drawing("paired_differences", TITLE, alt, figure)


def clear(interval: Interval) -> bool:
    """Whether it has two ends, on one side of 0."""
    return interval.low > 0 or interval.high < 0


def _line(axes: Axes, place: int, row: Row, look: Look) -> None:
    own = percent(row.difference)
    fill = look.colour if clear(own) else "white"
    if math.isfinite(own.low) and math.isfinite(own.high):
        axes.plot([own.low, own.high], [place, place], color=look.colour, linewidth=1.4, gid=look.gid, zorder=2)
    axes.plot([own.value], [place], look.shape, color=look.colour, markerfacecolor=fill, gid=look.gid, zorder=3)


def _columns(axes: Axes, rows: Sequence[Row]) -> None:
    """Band and p as text, right of the axes."""
    telling = any(row.p is not None and row.p < 1 for row in rows)  # of many methods and few seeds none is
    cells = [("band", "p" if telling else "")]
    cells += [(_cell(row.band, "d"), _cell(row.p, ".2g") if telling else "") for row in rows]
    style: dict[str, Any] = {"ha": "right", "va": "center", "size": SIZE, "transform": axes.get_yaxis_transform()}
    for place, texts in enumerate(cells):
        for at, text in zip((0.42, 0.95), texts, strict=True):
            x = 1 + at * COLUMNS / (WIDE * axes.get_position().width)
            axes.text(x, place - 1, text, color="black" if place else "0.3", **style)


def _cell(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)


def _notes(rows: Sequence[Row]) -> list[str]:
    intervals = [percent(row.difference) for row in rows]
    notes = ["Means over the seeds that both have."]
    if any(math.isfinite(one.low) for one in intervals):
        notes[0] += " Lines: 95 % intervals. Filled: without 0."
    if any(row.band is not None for row in rows):
        notes.append("Methods of one band can't be told from its best.")
    if any(row.p is not None and row.p < 1 for row in rows):
        notes.append("p: sign flips, Holm-adjusted.")
    return notes


def _absent(drawn: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    others = [row for row in drawn if row.method != REFERENCE]
    return missing(others, [row.method for row in rows], "for want of a difference")
