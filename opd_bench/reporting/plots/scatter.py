"""One point for each method: variance against bias, variance against accuracy, and cost against accuracy."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from opd_bench.reporting.drawing import Limits, Which, bias_axis, blank, fix, log_axis, share_axis, spans, styled
from opd_bench.reporting.labels import Label, place
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import ALL, Look, few, is_reference, left_out, looks, sentence
from opd_bench.reporting.plots.words import (
    QUIET,
    Drawing,
    bars,
    heading,
    listed,
    missing,
    percent,
    rounded,
    several,
    short,
    size,
    solved,
)
from opd_bench.reporting.probe_rows import Interval

VARIANCE, BIAS = "training.gradient.relative_variance", "training.gradient.bias_reverse_kl"
SECONDS, TOKENS = "timing.seconds.total", ("budget.student_tokens", "budget.teacher_tokens")
ALIKE = 1.02
"""Up to this ratio all methods wrote as many tokens, and there is nothing to compare."""


class Axis(NamedTuple):
    """A number of each row, what it is called, and the axis that it needs."""

    label: str
    value: Callable[[Row], Interval]
    scale: Callable[[Axes, Which, Sequence[Interval]], Limits]
    on_edge: Callable[[Row], bool] = lambda _: False


class Panel(NamedTuple):
    """The rows that have both numbers, and how they look."""

    x: Axis
    y: Axis
    rows: Sequence[Row]
    looks: Mapping[str, Look]

    def of(self, row: Row) -> tuple[float, float]:
        """Where a row's point belongs."""
        return self.x.value(row).value, self.y.value(row).value

    def told(self, words: str) -> str:
        """Every point in words."""
        points = [(self.looks[row.method].name, *map(short, self.of(row))) for row in self.rows]
        return several([words.format(name=name, x=x, y=y) for name, x, y in points])


def against_bias(table: Table) -> Drawing | None:
    """How far the mean gradient of each method is from the exact one, and how much a single one varies."""
    bias = Axis("bias: ‖E g − h‖ / ‖h‖   ← nearer to the exact gradient h", _estimate(BIAS), _bias_scale)
    panel = _panel(table, bias, _variance("variance: tr Cov g / ‖h‖²   ← steadier"))
    title = "Variance against bias"
    notes = ["g: gradient in the logits, at prefixes of the run. A low variance is no merit where the bias is large."]
    figure = _figure(table, title, [panel], [*notes, *_still(panel), *_absent(table, panel)])
    alt = f"Relative variance of each method's gradient, and its bias: {panel.told('{name} {y} at bias {x}')}."
    return Drawing("variance_against_bias", title, alt, figure) if panel.rows else None


def variance_against_accuracy(table: Table) -> Drawing | None:
    """Whether methods with steadier gradients solve more."""
    panel = _panel(table, _variance("variance of the gradient: tr Cov g / ‖h‖²   ← steadier"), _accuracy(table))
    title = "Variance against accuracy"
    figure = _figure(table, title, [panel], [*_still(panel), *_absent(table, panel)])
    alt = f"Accuracy in % of each method, and its gradient's relative variance: {panel.told('{name} {y} at {x}')}."
    return Drawing("variance_against_accuracy", title, alt, figure) if panel.rows else None


def cost_against_accuracy(table: Table) -> Drawing | None:
    """What a run takes, in seconds and in tokens, and what it comes to."""
    axes = (
        Axis("seconds a run   ← cheaper", _estimate(SECONDS), _cost_scale),
        Axis("tokens written a run, by student and teacher   ← cheaper", _tokens, _cost_scale),
    )
    seconds, tokens = (_panel(table, axis, _accuracy(table)) for axis in axes)
    alike = _alike(tokens)
    notes = ["Thin line: no other method is both cheaper and better. Seconds depend on the machine."]
    title, panels = "Cost against accuracy", [seconds] if alike else [seconds, tokens]
    figure = _figure(table, title, panels, [*notes, *alike, *_absent(table, seconds)], front)
    best = ", ".join(seconds.looks[row.method].name for row in front(seconds))
    alt = f"Accuracy in % of each method, and seconds a run: {seconds.told('{name} {y} in {x} s')}. "
    alt += f"No other method is both faster and better than one of these: {best}."
    return Drawing("cost_against_accuracy", title, alt, figure) if seconds.rows else None


def _alike(tokens: Panel) -> list[str]:
    """A note in the place of a plot, if all wrote as many tokens, or nobody knows how many."""
    written = [tokens.of(row)[0] for row in tokens.rows]
    if not written:
        return ["How many tokens were written is not known."]
    if max(written) > ALIKE * min(written):
        return []
    return [f"All wrote about {round(written[0]):,} tokens a run, student and teacher together."]


def front(panel: Panel) -> list[Row]:
    """The competitors that no other one is at once cheaper and better than, the cheapest first."""
    found: list[Row] = []
    for row in sorted(panel.rows, key=lambda row: (panel.of(row)[0], -panel.of(row)[1])):
        if not row.warning and not row.check and (not found or panel.of(row)[1] > panel.of(found[-1])[1]):
            found.append(row)
    return found


def _figure(
    table: Table,
    title: str,
    panels: Sequence[Panel],
    notes: Sequence[str],
    line: Callable[[Panel], Sequence[Row]] = lambda _: (),
) -> Figure:
    """Points and intervals, then the names between them."""
    most = max((len(panel.rows) for panel in panels), default=0)
    height = 2.9 if most <= ALL else 3.8 if most <= 2 * ALL else 5.4
    intervals = (axis.value(row) for panel in panels for axis in panel[:2] for row in panel.rows)
    texts = [*notes, *bars(intervals), *sentence(table)]
    with styled(QUIET):
        figure, all_axes = blank(heading(title, table), size(0.5 + height * len(panels), texts), len(panels), 1)
        limits = [_points(axes, panel, line(panel)) for axes, panel in zip(all_axes, panels, strict=False)]
        fix(figure, texts)
        for axes, panel, frame in zip(all_axes, panels, limits, strict=False):
            place(axes, [_label(panel, row, frame) for row in panel.rows if not _is_listed(panel, row)])
    return figure


def _points(axes: Axes, panel: Panel, line: Sequence[Row]) -> tuple[Limits, Limits]:
    axes.set(xlabel=panel.x.label, ylabel=panel.y.label)
    x_limits = panel.x.scale(axes, "x", [panel.x.value(row) for row in panel.rows])
    y_limits = panel.y.scale(axes, "y", [panel.y.value(row) for row in panel.rows])
    for row in panel.rows:
        (x, *across), (y, *up) = spans([panel.x.value(row)], x_limits), spans([panel.y.value(row)], y_limits)
        _interval(axes.errorbar(x, y, xerr=across, yerr=up, fmt="none"), panel.looks[row.method])
        _mark(axes, (x, y), panel.looks[row.method])
    if len(line) > 1:
        axes.plot(
            *np.transpose([panel.of(row) for row in line]),
            color="0.5",
            linewidth=0.8,
            drawstyle="steps-post",
            zorder=1.8,
        )
    return x_limits, y_limits


def _mark(axes: Axes, at: tuple[Any, Any], look: Look) -> None:
    wide = 8 if look.shape == "X" else 6
    style: dict[str, Any] = {"markersize": wide, "markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(*at, look.shape, color=look.colour, gid=look.gid, zorder=look.depth, clip_on=False, **style)


def _interval(drawn: Any, look: Look) -> None:
    """Thin lines for intervals."""
    for one in drawn.lines[2]:
        one.set(color=look.colour, linewidth=0.8, alpha=0.5, zorder=look.depth - 1, gid=look.gid)


def _label(panel: Panel, row: Row, frame: tuple[Limits, Limits]) -> Label:
    look, heavy = panel.looks[row.method], row.warning or is_reference(row)
    x, y = (float(np.clip(value, *limits)) for value, limits in zip(panel.of(row), frame, strict=True))
    return Label(look.name, x, y, "black" if look.chosen else "0.4", "bold" if heavy else "normal", look.gid)


def _panel(table: Table, x: Axis, y: Axis) -> Panel:
    known = looks(table)
    rows = few(table.rows, [method for method, look in known.items() if look.chosen])
    whole = Panel(x, y, rows, known)
    return whole._replace(rows=[row for row in rows if all(map(math.isfinite, whole.of(row)))])


def _variance(label: str) -> Axis:
    return Axis(label, _estimate(VARIANCE), _variance_scale, _is_still)


def _accuracy(table: Table) -> Axis:
    return Axis(f"{solved(table)}   better →", lambda row: percent(row.accuracy), _share_scale)


def _estimate(name: str) -> Callable[[Row], Interval]:
    return lambda row: rounded(row.estimates.get(name))


def _tokens(row: Row) -> Interval:
    """None written is not known."""
    return Interval(sum(row.means.get(name, 0.0) for name in TOKENS) or math.nan)


def _values(intervals: Sequence[Interval]) -> list[float]:
    return [interval.value for interval in intervals]


def _bias_scale(axes: Axes, which: Which, intervals: Sequence[Interval]) -> Limits:
    return bias_axis(axes, which, _values(intervals))


def _variance_scale(axes: Axes, which: Which, intervals: Sequence[Interval]) -> Limits:
    return log_axis(axes, which, _values(intervals))


def _share_scale(axes: Axes, which: Which, intervals: Sequence[Interval]) -> Limits:
    return share_axis(axes, which, [end for interval in intervals for end in interval])


def _cost_scale(axes: Axes, which: Which, intervals: Sequence[Interval]) -> Limits:
    """Close around the values, in thousands and millions."""
    limits = log_axis(axes, which, _values(intervals), 1.25)
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(FuncFormatter(lambda value, _: _counted(value)))
    return limits


def _counted(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _is_listed(panel: Panel, row: Row) -> bool:
    """Whether it is among too many on the edge for names beside them: the note has them."""
    crowded = len(panel.rows) > 2 * ALL and not panel.looks[row.method].chosen
    return crowded and any(axis.on_edge(row) for axis in (panel.x, panel.y))


def _is_still(row: Row) -> bool:
    return rounded(row.estimates[VARIANCE]).value <= 0


def _still(panel: Panel) -> list[str]:
    """Who has no variance at all."""
    names = [panel.looks[row.method].name for row in panel.rows if _is_still(row)]
    return [f"On the edge, without variance: {listed(names)}."] if names else []


def _absent(table: Table, panel: Panel) -> list[str]:
    rows = few(table.rows, [method for method, look in panel.looks.items() if look.chosen])
    there = [row.method for row in panel.rows]
    return [*left_out(table.rows, rows), *missing(rows, there, "for want of a finite number")]
