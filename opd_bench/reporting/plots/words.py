"""What the plots of a leaderboard say in words: on their axes, beside them, and to who can't see them."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from opd_bench.reporting.cells import figure as three_digits
from opd_bench.reporting.drawing import BARS, STYLE, wrapped
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import Look, named, plain
from opd_bench.reporting.probe_rows import Interval
from opd_bench.reporting.statistics import Estimate

WIDE = 5.4
"""Width of a plot in inches: on a telephone its letters are still to be read."""
QUIET = STYLE | {"axes.edgecolor": "0.5", "xtick.color": "0.5", "ytick.color": "0.5", "axes.labelsize": 8.5}
QUIET |= {"xtick.labelcolor": "black", "ytick.labelcolor": "black", "xtick.labelsize": 8.5, "ytick.labelsize": 8.5}
ROUNDING = 1e-9
"""Variances and biases below are 0 but for rounding."""
NAMES = 24
"""Methods that a note names."""
LINE = 0.14
"""Height of a line of notes, in inches."""
MOST = 8
"""Methods whose numbers are told in words."""


class Picture(NamedTuple):
    """A plot in a page."""

    name: str  # like a file's, and no other of its table has it
    title: str
    alt: str  # what it says, with its main numbers
    svg: str


class Drawing(NamedTuple):
    """A finished plot, still with its artists."""

    name: str
    title: str
    alt: str
    figure: Figure


def size(height: float, notes: Iterable[str]) -> tuple[float, float]:
    """Of a figure whose axes are about so high, whatever there is to note."""
    return WIDE, height + LINE * len(wrapped(notes, WIDE))


def bars(intervals: Iterable[Interval]) -> list[str]:
    """A note on intervals, if there are any."""
    return [BARS] if any(math.isfinite(one.low) for one in intervals) else []


def heading(title: str, table: Table) -> str:
    """A plot's title for who meets it without its page."""
    return f"{title}\n{plain(table.title)}"


def solved(table: Table) -> str:
    """What accuracy is, for its axis."""
    tasks = table.tasks.values()
    heat = {float(task.get("temperature", 1)) for task in tasks}
    sampled = f"solved, sampled at T = {heat.pop():g}, %" if len(heat) == 1 else "solved, sampled, %"
    return sampled + (f", mean of {len(tasks)} tasks" if len(tasks) > 1 else "")


def percent(estimate: Estimate) -> Interval:
    """In hundredths."""
    return Interval(*(math.nan if end is None else 100 * end for end in estimate))


def rounded(estimate: Estimate | None) -> Interval:
    """As a plot needs it, without rounding errors."""
    ends = Estimate(None) if estimate is None else estimate
    return Interval(*(math.nan if end is None else 0.0 if abs(end) < ROUNDING else end for end in ends))


def accuracy(row: Row) -> Interval:
    """In %."""
    return percent(row.accuracy)


def told(value: Interval, sign: str = "") -> str:
    """A number with its interval, if it has one."""
    ends = (f"{value.low:.1f}, {value.high:.1f}") if math.isfinite(value.low) and math.isfinite(value.high) else ""
    return f"{value.value:{sign}.1f}" + (f" [{ends}]" if ends else "")


def short(value: float) -> str:
    """Three digits."""
    return three_digits(value)


def several(parts: Sequence[str]) -> str:
    """The first of many, and how many more there are."""
    more = len(parts) - MOST
    return "; ".join(parts[:MOST]) + (f"; and {more} more" if more > 0 else "")


def listed(names: Sequence[str]) -> str:
    """Names in a note, if they are not too many."""
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")


def missing(rows: Iterable[Row], shown: Container[str], why: str) -> list[str]:
    """A note on the rows that are not in the plot."""
    names = [named(row) for row in rows if row.method not in shown]
    return [f"Not shown, {why}: {listed(names)}."] if names else []


def by_gid(looks: Mapping[str, Look]) -> dict[str, str]:
    """Each method by what its artists are known by."""
    return {look.gid: plain_method(method) for method, look in looks.items()}


def plain_method(method: str) -> str:
    """As it is, but for what XML has no place for."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in method)
