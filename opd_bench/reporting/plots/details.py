"""The curves of one method at a time: drawn for many at once, since one hundred figures take a minute."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.over_time import Panel, Plot, one_by_one, told
from opd_bench.reporting.plots.themed import Shared, Words, prepared, written
from opd_bench.reporting.plots.words import Picture, by_gid, plain_method
from opd_bench.reporting.record import short_digest

BLOCK = 50
"""Rows that are drawn at once."""


class Stage(NamedTuple):
    """Some rows of a table, drawn one over another."""

    rows: Sequence[Row]  # of the whole table, which it is known by
    block: tuple[str, int]
    plot: Plot
    root: Element | None


_stages: deque[Stage] = deque(maxlen=4)
"""The last ones, since one row after the other is asked for."""


def of_row(table: Table, row: Row, panel: Panel) -> Picture | None:
    """One row in colour and the reference dashed, over all others in grey, which the first picture of a block holds."""
    place = [other.method for other in table.rows].index(row.method)
    stage = _stage(table, panel, place // BLOCK)
    if stage.root is None or row.method not in stage.plot.heroes:
        return None
    name, title = f"{panel.name}_{place}", f"{panel.title}: {stage.plot.looks[row.method].name}"
    words = Words(f"{name}-{short_digest(table.title)}", title, told(stage.plot, [row.method]))
    below = f"{panel.name}_below_{place // BLOCK}-{short_digest(table.title)}"
    own = Shared(plain_method(row.method), below, row.method == stage.plot.heroes[0])
    return Picture(name, title, words.alt, written(stage.root, words, own))


def _stage(table: Table, panel: Panel, number: int) -> Stage:
    block = panel.name, number
    for stage in _stages:
        if stage.rows is table.rows and stage.block == block:
            return stage
    plot, figure = one_by_one(table, panel, table.rows[number * BLOCK :][:BLOCK])
    stage = Stage(table.rows, block, plot, prepared(figure, by_gid(plot.looks)) if figure else None)
    _stages.append(stage)
    return stage
