"""What happens over training: the share of rollouts solved and the gradient norm of each method, step by step."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from opd_bench.reporting.drawing import Limits, blank, fix, log_axis, share_axis, styled
from opd_bench.reporting.labels import Label, beside, room
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.looks import ALL, COLOURS, GREY, INK, Look, few, is_reference, left_out, looks, sentence
from opd_bench.reporting.plots.readings import POINTS, RUNS, Curve, Numbers, Reading, envelope, reading, thin
from opd_bench.reporting.plots.words import QUIET, WIDE, Drawing, heading, listed, missing, several, short, size

COARSE, COARSER, OWN = 50, 30, 40
"""Points of a grey curve, where there is one plot for all and where there is one for each; of a coloured one there."""
HIGH = 3.5
STRENGTHS = ((5, 0.16), (ALL, 0.09))
"""Up to so many coloured curves their bands are so strong; of more there are none."""
STRONG = STRENGTHS[0][1]
PLAIN = COLOURS[0]
FAINT: dict[str, Any] = {"color": GREY, "linewidth": 0.7, "alpha": 0.45, "zorder": 1.5}
NOTHING = Curve(*np.empty((4, 0), dtype=np.float32))


class Panel(NamedTuple):
    """A figure over training: which, its axis, and what is said of it."""

    name: str
    title: str
    label: str
    of: Callable[[Reading], Curve]
    axis: Callable[[Axes, Iterable[float]], Limits]
    coarser: Callable[[Curve, int], Curve]
    note: str
    band: str
    words: str


class Plot(NamedTuple):
    """What is to be drawn: the curves found, how they look, and which of them are told apart."""

    table: Table
    panel: Panel
    looks: Mapping[str, Look]
    found: Mapping[str, Reading]
    drawn: Sequence[str]
    heroes: Sequence[str]

    def curve(self, method: str) -> Curve:
        """What the panel shows of it."""
        return self.panel.of(self.found[method])


SOLVED = Panel(
    "accuracy_curves",
    "Accuracy over training",
    "solved while training, %   better →",
    lambda found: found.solved,
    lambda axes, values: share_axis(axes, "y", values),
    thin,
    "Lines: rollouts solved, mean of all seeds and of {window} steps. Marks: validation problems solved.",
    "Shaded: 95 % intervals over seeds.",
    "Rollouts solved over {steps} steps, first to last, in %",
)
NORM = Panel(
    "gradient_norms",
    "Gradient norm over training",
    "gradient norm before clipping",
    lambda found: found.norm,
    lambda axes, values: log_axis(axes, "y", values, 1.3),
    envelope,
    "Lines: median of all seeds.",
    "Shaded: from the smallest to the largest of the seeds.",
    "Gradient norm before clipping over {steps} steps, median of a step and largest",
)


def over_training(table: Table, panel: Panel) -> Drawing | None:
    """All methods, the chosen ones in colour and with their names beside."""
    known = looks(table)
    chosen = [row for row in table.rows if known[row.method].chosen]
    plot = _plot(table, panel, chosen, known)
    if not plot.drawn:
        return None
    ends = [_end(plot, method) for method in plot.heroes]
    strength = next((strength for most, strength in STRENGTHS if len(plot.heroes) <= most), 0.0)
    notes = [*_notes(plot, strength), *sentence(table), *_troubles(plot, list(plot.found)), *_absent(plot)]
    with styled(QUIET):
        figure, axes = _begun(plot, notes, room([label.text for label in ends]))
        for method in plot.drawn:
            if method not in plot.heroes:
                axes.plot(*_coarse(plot, method, COARSE), gid=plot.looks[method].gid, **FAINT)
        for method in plot.heroes:
            _coloured(axes, plot, method, strength)
        fix(figure, notes)
        beside(axes, ends)
    return Drawing(panel.name, panel.title, told(plot, plot.heroes), figure)


def one_by_one(table: Table, panel: Panel, rows: Sequence[Row]) -> tuple[Plot, Figure | None]:
    """All of these rows in colour, to be shown one at a time; the others grey, the reference dashed."""
    reference = [row for row in table.rows if is_reference(row)]
    plot = _plot(table, panel, list({row.method: row for row in (*rows, *reference)}.values()), _all_told_apart(table))
    if not plot.heroes:
        return plot, None
    dashed = [row.method for row in reference if row.method in plot.heroes]
    grey = ["Grey: the other methods."] if len(plot.drawn) > 1 else []
    notes = [*_notes(plot, STRONG), " ".join([*grey, *(f"Dashed: {plot.looks[method].name}." for method in dashed)])]
    with styled(QUIET):
        figure, axes = _begun(plot, notes, 0)
        axes.plot(*_joined([_coarse(plot, method, COARSER) for method in plot.drawn]), **FAINT)
        for method in dashed:
            axes.plot(*plot.curve(method)[:2], color=INK, linestyle="--", linewidth=1, zorder=2.8)
        for method in plot.heroes:
            _coloured(axes, plot, method, STRONG, OWN)
        fix(figure, notes)
    return plot, figure


def _plot(table: Table, panel: Panel, chosen: Sequence[Row], known: Mapping[str, Look]) -> Plot:
    found = _read(table, chosen)
    shown = [method for method, one in found.items() if panel.of(one).known or _marks(panel, one).known]
    return Plot(table, panel, known, found, shown, [row.method for row in chosen if row.method in shown])


def _begun(plot: Plot, notes: Sequence[str], margin: float) -> tuple[Figure, Axes]:
    """Axes with room on the right for names."""
    figure, (axes,) = blank(heading(plot.panel.title, plot.table), size(HIGH, notes))
    figure.set_layout_engine("constrained", rect=(0, 0, 1 - margin / WIDE, 1))
    axes.set(xlabel="step", ylabel=plot.panel.label)
    plot.panel.axis(axes, list(_values(plot)))
    axes.set_xlim(0, max(one.steps for one in plot.found.values()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes


def _coloured(axes: Axes, plot: Plot, method: str, strength: float, points: int = POINTS) -> None:
    """A curve with its band and its marks."""
    look, marks = plot.looks[method], _marks(plot.panel, plot.found[method])
    curve = plot.panel.coarser(plot.curve(method), points)
    style: dict[str, Any] = {"color": look.colour, "gid": look.gid}
    if curve.banded and strength:
        axes.fill_between(curve.steps, curve.low, curve.high, alpha=strength, linewidth=0, zorder=2, **style)
    axes.plot(curve.steps, curve.middle, linestyle=look.dash, linewidth=1.3, zorder=look.depth, **style)
    if marks.known:
        style |= {"markeredgecolor": "white", "markeredgewidth": 0.5, "clip_on": False, "zorder": look.depth}
        line = "none" if curve.known else look.dash
        axes.plot(marks.steps, marks.middle, marker=look.shape, linestyle=line, markersize=5, **style)


def _all_told_apart(table: Table) -> dict[str, Look]:
    """Looks for one at a time."""
    found = looks(table).items()
    return {method: look if look.chosen else look._replace(colour=PLAIN, shape="s") for method, look in found}


def _end(plot: Plot, method: str) -> Label:
    """The name that is written at the end of a curve."""
    look, curve = plot.looks[method], plot.curve(method)
    end = (curve if curve.known else _marks(plot.panel, plot.found[method])).end
    return Label(look.name, *end, look.colour, gid=look.gid, dash=look.dash)


def _coarse(plot: Plot, method: str, points: int) -> tuple[Numbers, Numbers]:
    """A grey curve."""
    curve = plot.panel.coarser(plot.curve(method), points)
    return curve.steps, curve.middle


def _joined(curves: Sequence[tuple[Numbers, Numbers]]) -> list[Numbers]:
    """Several as one, with gaps between."""
    gap = np.full(1, np.nan, dtype=np.float32)
    return [np.concatenate([part for curve in curves for part in (curve[axis], gap)]) for axis in (0, 1)]


def _values(plot: Plot) -> Iterator[float]:
    """All heights that are drawn."""
    for method in plot.drawn:
        curve = plot.curve(method)
        yield from curve.middle.tolist()
        if method in plot.heroes:
            for part in (curve.low, curve.high, _marks(plot.panel, plot.found[method]).middle):
                yield from part.tolist()


def _marks(panel: Panel, found: Reading) -> Curve:
    return found.judged if panel is SOLVED else NOTHING


def _read(table: Table, chosen: Sequence[Row]) -> dict[str, Reading]:
    """The chosen and the others, in the table's order."""
    return {row.method: reading(row) for row in few(table.rows, [row.method for row in chosen])}


def _notes(plot: Plot, strength: float) -> list[str]:
    window = max(one.window for one in plot.found.values())
    banded = strength and any(plot.curve(method).banded for method in plot.heroes)
    return [plot.panel.note.format(window=window) + (f" {plot.panel.band}" if banded else "")]


def _troubles(plot: Plot, methods: Sequence[str]) -> list[str]:
    """What could not be read or drawn of some methods' runs."""
    found = [(plot.looks[method].name, plot.found[method]) for method in methods]
    lost = [f"{name} ({one.lost})" for name, one in found if one.lost]
    more = [name for name, one in found if one.more]
    endless = [f"{name} ({one.endless})" for name, one in found if one.endless and plot.panel is NORM]
    notes = [f"Runs whose series can't be read: {listed(lost)}."] if lost else []
    notes += [f"Of the runs the first {RUNS} by seed: {listed(more)}."] if more else []
    return notes + ([f"Infinite norms, not drawn: {listed(endless)}."] if endless else [])


def _absent(plot: Plot) -> list[str]:
    rows = [row for row in plot.table.rows if row.method in plot.found]
    return [*left_out(plot.table.rows, rows), *missing(rows, plot.drawn, "for want of finished steps")]


def told(plot: Plot, methods: Sequence[str]) -> str:
    """The numbers of some curves in words, and what is wrong with them."""
    steps = max(one.steps for one in plot.found.values())
    numbers = several([f"{plot.looks[method].name} {_of_curve(plot, method)}" for method in methods])
    return " ".join([f"{plot.panel.words.format(steps=steps)}: {numbers}.", *_troubles(plot, methods)])


def _of_curve(plot: Plot, method: str) -> str:
    curve, found = plot.curve(method), plot.found[method]
    if plot.panel is NORM:
        largest = np.nanmax([curve.middle, curve.high])
        return f"{short(float(np.nanmedian(curve.middle)))} and {short(float(largest))}"
    first, last = (curve if curve.known else found.judged).ends
    return f"{first:.1f} to {last:.1f}"
