"""Accuracies as small drawings on one scale: a dot, its interval, and lines where the untrained models are."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from opd_bench.reporting.leaderboard import Table
from opd_bench.reporting.page.markup import Markup, tag
from opd_bench.reporting.statistics import Estimate

STEP = 10
"""The scale begins and ends at one of so many parts of 1."""


class Scale(NamedTuple):
    """From the lowest to the highest accuracy of a table, and what is marked on it."""

    low: float
    high: float
    marks: tuple[float, ...]

    def drawn(self, value: Estimate, kind: str) -> Markup:
        """What the text beside it says, for the eye alone."""
        if value.mean is None:
            return Markup()
        low, high = (value.mean if end is None else end for end in value[1:])
        guides = [self._line(mark, mark, "guide") for mark in self.marks]
        dot = tag("circle", cx=self._at(value.mean), cy="50%", r=3.5)
        reach = [self._line(low, high, "reach")] if low < high else []
        parts = [*guides, *reach, dot]
        return tag("svg", *parts, class_=f"drawing {kind}", aria_hidden="true", focusable="false")

    def _line(self, start: float, end: float, kind: str) -> Markup:
        upright = {"y1": "0", "y2": "100%"} if start == end else {"y1": "50%", "y2": "50%"}
        return tag("line", x1=self._at(start), x2=self._at(end), **upright, class_=kind)

    def _at(self, value: float) -> str:
        """A little off the edges, where half a dot would be cut off."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{4 + 92 * share:.1f}%"


def scale(table: Table) -> Scale:
    """Wide enough for all rows of a table."""
    known = [value for value in _values(table) if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low, high = math.floor(STEP * low) / STEP, math.ceil(STEP * high) / STEP
    marks = tuple(row.accuracy.mean for row in table.anchors if row.accuracy.mean is not None)
    return Scale(low, high if high > low else low + 1 / STEP, marks)


def _values(table: Table) -> Iterator[float]:
    for row in (*table.rows, *table.anchors):
        for end in row.accuracy:
            if end is not None:
                yield min(max(end, 0.0), 1.0) if 0 <= (row.accuracy.mean or 0) <= 1 else end
