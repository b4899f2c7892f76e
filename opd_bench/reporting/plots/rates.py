"""How the accuracy of each method depends on the learning rate."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opd_bench.reporting.drawing import blank, fix, log_axis, share_axis, spans, styled
from opd_bench.reporting.labels import Label, beside, room
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import ALL, COLOURS, INK, MANY, WRONG, Look, looks, named, sentence
from opd_bench.reporting.plots.words import QUIET, WIDE, Drawing, bars, heading, percent, several, short, size, solved
from opd_bench.reporting.probe_rows import Interval

TITLE = "Accuracy at several learning rates"
HIGH = 3.5
ACROSS, TALL = 5, 0.92
"""Of many methods each has a small plot: so many in a row, each so high in inches."""
TINY = 6.5
MARKED = 6
"""Rates up to which each is marked on the axis."""
RATE = re.compile(r"\[learning_rate=[^,\]]*\]|learning_rate=[^,\]]*, |, learning_rate=[^,\]]*")
"""What the name of a row says of its rate, if a protocol has several."""


class Curve(NamedTuple):
    """One method's accuracy by learning rate."""

    look: Look
    points: dict[float, Interval]


def rate_sensitivity(table: Table, tables: Sequence[Table]) -> Drawing | None:
    """A curve for each method that ran at two rates or more, over all tables that differ in the rate alone."""
    curves = [one for one in _curves(table, tables) if len(one.points) > 1]
    if not curves:
        return None
    notes = [*_notes(table), *bars(point for one in curves for point in one.points.values())]
    figure = _one_by_one(table, curves, notes) if len(curves) > ALL else _together(table, curves, notes)
    alt = f"Accuracy in % by learning rate: {several([_told(one) for one in curves])}."
    return Drawing("learning_rates", TITLE, alt, figure)


def _together(table: Table, curves: Sequence[Curve], notes: Sequence[str]) -> Figure:
    """In one plot, with names beside."""
    ends = [_end(one) for one in curves if one.look.chosen]
    texts = [*notes, *sentence(table)]
    with styled(QUIET):
        figure, (axes,) = blank(heading(TITLE, table), size(HIGH, texts))
        figure.set_layout_engine("constrained", rect=(0, 0, 1 - room([end.text for end in ends]) / WIDE, 1))
        axes.set(xlabel="learning rate", ylabel=f"{solved(table)}   better →")
        _scaled(axes, curves)
        for curve in sorted(curves, key=lambda one: one.look.depth):
            _draw(axes, curve)
        fix(figure, texts)
        beside(axes, ends)
    return figure


def _one_by_one(table: Table, curves: Sequence[Curve], notes: Sequence[str]) -> Figure:
    """Each in a small plot of its own, by name, all on the same axes."""
    shown = sorted(curves[:MANY], key=lambda one: (one.look.colour == WRONG, one.look.name))
    more = [f"{len(curves) - MANY} of {len(curves)} methods are left out."] * (len(curves) > MANY)
    texts = [f"Each plot: {solved(table)}, by learning rate; all on the same axes.", *notes, *more]
    with styled(QUIET | {"xtick.labelsize": TINY, "ytick.labelsize": TINY, "lines.markersize": 3}):
        high = TALL * math.ceil(len(shown) / ACROSS)
        figure, panels = blank(heading(TITLE, table), size(high, texts), len(shown), ACROSS)
        for place, axes in enumerate(panels):
            axes.set_visible(place < len(shown))
        for place, (axes, curve) in enumerate(zip(panels, shown, strict=False)):
            _scaled(axes, curves, ends=True)
            _draw(axes, curve._replace(look=_apart(curve.look)))
            axes.set_title(curve.look.name, fontsize=TINY, loc="left", pad=2)
            axes.tick_params(labelleft=place % ACROSS == 0, labelbottom=place + ACROSS >= len(shown), length=2)
        fix(figure, texts)
    return figure


def _apart(look: Look) -> Look:
    """Who has a plot alone needs no colour of its own, but for the reference and the known-wrong."""
    return look if look.colour in (INK, WRONG) else look._replace(colour=COLOURS[0], shape="o", dash="-")


def _curves(table: Table, tables: Sequence[Table]) -> list[Curve]:
    """Of this table's methods, in its order."""
    known, found = looks(table), dict[str, Curve]()
    for row in _known(table):
        name = named(row._replace(method=RATE.sub("", row.method)))
        found.setdefault(_identity(row), Curve(known[row.method]._replace(name=name), {}))
    others = [
        other for other in tables if other.title != table.title and _family(table) and _family(other) == _family(table)
    ]
    for row in (row for one in (table, *others) for row in _known(one)):
        rate, curve = _rate(row), found.get(_identity(row))
        if curve and rate:
            curve.points.setdefault(rate, percent(row.accuracy))
    return [curve._replace(points=dict(sorted(curve.points.items()))) for curve in found.values()]


def _scaled(axes: Axes, curves: Sequence[Curve], ends: bool = False) -> None:
    """Axes for all of the curves; in a small plot there is room for the words of both ends alone."""
    rates = sorted({rate for one in curves for rate in one.points})
    log_axis(axes, "x", rates, 1.25)
    if len(rates) <= MARKED:
        words = [f"{rate:g}" if rate in (rates[0], rates[-1]) else "" for rate in rates]
        axes.set_xticks(rates, words if ends else None)
    share_axis(axes, "y", [end for one in curves for point in one.points.values() for end in point])


def _draw(axes: Axes, curve: Curve) -> None:
    look, points = curve
    y, *ends = spans(list(points.values()), axes.get_ylim())
    style: dict[str, Any] = {"color": look.colour, "gid": look.gid, "alpha": 1 if look.chosen else 0.5}
    reach = axes.errorbar(list(points), y, yerr=ends, fmt="none", ecolor=look.colour, elinewidth=0.8)
    for line in reach.lines[2]:
        line.set(alpha=0.5, gid=look.gid)
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": look.depth}
    axes.plot(list(points), y, look.shape, linestyle=look.dash, linewidth=1.3, **edge, **style)


def _known(table: Table) -> Iterator[Row]:
    """Methods with an accuracy that began as usual."""
    for row in table.rows:
        if row.runs and not row.check and row.accuracy.mean is not None and math.isfinite(row.accuracy.mean):
            yield row


def _identity(row: Row) -> str:
    """The method with all its fields, but for the learning rate."""
    method = row.runs[0]["method"]
    return json.dumps([method["name"], method.get("estimator"), method["settings"], method["source"]], sort_keys=True)


def _family(table: Table) -> tuple[str, str] | None:
    """What tables share that differ in nothing but the learning rate."""
    family = table.protocol.get("family")
    return (str(family), str(table.protocol.get("version"))) if family else None


def _rate(row: Row) -> float | None:
    return row.rate if row.rate and 0 < row.rate < math.inf else None


def _end(curve: Curve) -> Label:
    rate, point = list(curve.points.items())[-1]
    look = curve.look
    return Label(look.name, rate, point.value, look.colour, gid=look.gid, dash=look.dash)


def _notes(table: Table) -> list[str]:
    """What the curve is not."""
    if table.of_trials:
        return ["Trials, on the validation split: they choose a rate and are no results."]
    rates = {rate for row in _known(table) if (rate := _rate(row))}
    own = f" This table's rate is {rates.pop():g}." if len(rates) == 1 else ""
    return [f"Every learning rate is a protocol of its own: curves, and no ranking across them.{own}"]


def _told(curve: Curve) -> str:
    points = [f"{short(point.value)} at {rate:g}" for rate, point in curve.points.items()]
    return f"{curve.look.name} {', '.join(points)}"
