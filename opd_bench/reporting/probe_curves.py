"""What several probes of one reference run say about each method as training goes on."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from opd_bench.reporting.drawing import BARS, Limits, bias_axis, blank, fix, log_axis, shorter, spans, styled
from opd_bench.reporting.figures import number
from opd_bench.reporting.probe_rows import READING, Interval, Row, protocol, rows
from opd_bench.reporting.record import Record

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "black")
SHAPES = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")
MOST = 10
"""Methods told apart where nobody says which."""
APART = 0.6
"""Percent of the run by which the methods' points are moved, so that their intervals can be seen."""
Probes = Mapping[float, Mapping[str, Row]]
"""Each method's row at each percent of the run."""


class Panel(NamedTuple):
    """An estimate over the run, and the kind of axis it needs."""

    name: str
    title: str
    axis: Callable[[Axes, Literal["x", "y"], Sequence[float]], Limits]


PANELS = (
    Panel("snr", "SNR: ‖E g‖² / tr Cov g", log_axis),
    Panel("relative_variance", "relative variance: tr Cov g / ‖E h‖²", log_axis),
    Panel("bias_reverse_kl", "bias: ‖E g − E h‖ / ‖E h‖", bias_axis),
)


class Look(NamedTuple):
    """How a highlighted method looks, and how far its points are moved aside."""

    colour: str
    shape: str
    style: Literal["-", "--"]
    aside: float


def over_training(records: Sequence[Record], highlight: Sequence[str] | None = None) -> Figure | None:
    """SNR, variance and bias over progress; methods not highlighted are grey, and one checkpoint makes no curve.

    Without `highlight`, the ten first at the first checkpoint. Of two probes of one checkpoint the newest counts.
    """
    probes = _by_progress(records)
    if len(probes) < 2:
        return None
    names = list(dict.fromkeys(name for probe in probes.values() for name in probe))
    chosen = [name for name in (names[:MOST] if highlight is None else highlight) if name in names]
    looks = {name: _look(place, len(chosen)) for place, name in enumerate(chosen)}
    with styled():
        figure, all_axes = blank(f"Gradients over training\n{protocol(records[0])}", (13, 5.2), len(PANELS))
        for axes, panel in zip(all_axes, PANELS, strict=True):
            _panel(axes, panel, probes, {name: looks.get(name) for name in [*names, *chosen]})
        _legend(figure, probes, looks)
        fix(figure, [READING, f"{BARS} Missing points: no finite number, or not above 0 on a logarithmic axis."])
    return figure


def _by_progress(records: Sequence[Record]) -> Probes:
    """Each probe's methods, by percent of the run."""
    if len({protocol(record) for record in records}) > 1:
        raise ValueError("probes of several protocols have no common curve; hand over those of one run")
    newest = sorted(records, key=lambda record: (record["created"], record["id"]))
    found = {number(record["checkpoint"]["progress"]): record for record in newest}
    return {
        100 * at: {row.method: row for row in rows(found[at])} for at in sorted(at for at in found if at is not None)
    }


def _panel(axes: Axes, panel: Panel, probes: Probes, looks: Mapping[str, Look | None]) -> None:
    """The grey ones first, the others over them."""
    axes.set(title=panel.title, xlabel="% of the reference run")
    axes.set_xticks(list(probes))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    limits = panel.axis(axes, "y", [row.value(panel.name) for probe in probes.values() for row in probe.values()])
    for name, look in sorted(looks.items(), key=lambda item: item[1] is not None):
        y, *ends = spans([_point(probe.get(name), panel) for probe in probes.values()], limits)
        x = np.array(list(probes)) + (look.aside if look else 0)
        if look is None:
            axes.plot(x, y, gid=name, color="0.85", linewidth=0.7, zorder=1.5)
        else:
            curve = axes.errorbar(x, y, yerr=ends, color=look.colour, fmt=look.shape + look.style, markersize=5)
            curve.lines[0].set(gid=name, linewidth=1.2)
            for bars in curve.lines[2]:
                bars.set(linewidth=0.8, alpha=0.5)


def _point(row: Row | None, panel: Panel) -> Interval:
    """NaN, which leaves a gap, where there is nothing that the axis can show."""
    estimate = row.estimates.get(panel.name) if row else None
    if estimate is None or not math.isfinite(estimate.value) or (panel.axis is log_axis and estimate.value <= 0):
        return Interval(math.nan)
    return estimate


def _look(place: int, count: int) -> Look:
    """Dashed once the colours come round again."""
    style: Literal["-", "--"] = "-" if place < len(COLOURS) else "--"
    aside = APART * (place - (count - 1) / 2)
    return Look(COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)], style, aside)


def _legend(figure: Figure, probes: Probes, looks: Mapping[str, Look]) -> None:
    labels = {name: row.label for probe in probes.values() for name, row in probe.items()}
    handles = [Line2D([], [], color=look.colour, marker=look.shape, linestyle=look.style) for look in looks.values()]
    texts = [shorter(labels[name]) for name in looks]
    if len(labels) > len(looks):
        handles, texts = [*handles, Line2D([], [], color="0.85")], [*texts, f"{len(labels) - len(looks)} others"]
    figure.legend(handles, texts, loc="outside right center")
