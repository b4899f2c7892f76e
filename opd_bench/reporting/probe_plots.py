"""Plots of a probe: variance against bias, and the signal-to-noise ratio of every method."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from opd_bench.reporting.drawing import (
    BARS,
    KINDS,
    Kind,
    Limits,
    absent,
    bias_axis,
    blank,
    fix,
    kind,
    log_axis,
    shorter,
    spans,
    styled,
    write,
)
from opd_bench.reporting.labels import Label, place
from opd_bench.reporting.probe_rows import READING, Row, heading, rows
from opd_bench.reporting.protocol import REFERENCE
from opd_bench.reporting.record import Record

BIAS, VARIANCE, SNR = "bias_reverse_kl", "relative_variance", "snr"
DECADES = 2
"""Span of SNRs from which their axis is logarithmic."""


def save(record: Record, folder: Path) -> list[Path]:
    """Both plots of a probe as PNG and SVG; the same record gives the same bytes."""
    pictures = {"variance_against_bias": variance_against_bias(record), "snr": snr_bars(record)}
    return [path for name, figure in pictures.items() for path in write(figure, folder, name)]


def variance_against_bias(record: Record) -> Figure:
    """One point per method: how far its mean gradient is from the exact one, and how much a single one varies."""
    all_rows = rows(record)
    shown = _finite(all_rows, BIAS, VARIANCE)
    still = [shorter(row.label) for row in shown if row.value(VARIANCE) <= 0]
    edge = [f"On the lower edge, without variance: {', '.join(still)}."] if still else []
    with styled():
        figure, (axes,) = blank(f"Variance against bias\n{heading(record)}", (11, 8.5))
        axes.set_xlabel("bias: ‖E g − E h‖ / ‖E h‖, g the method's gradient, h the exact reverse-KL gradient")
        axes.set_ylabel("relative variance: tr Cov g / ‖E h‖², over whole rollouts")
        x_limits = bias_axis(axes, "x", [row.value(BIAS) for row in shown])
        limits = x_limits, log_axis(axes, "y", [row.value(VARIANCE) for row in shown])
        _points(axes, shown, *limits)
        _legend(axes, shown)
        fix(figure, [READING, BARS, *edge, *absent(all_rows, shown)])
        place(axes, [_label(row, *limits) for row in shown])
    return figure


def snr_bars(record: Record) -> Figure:
    """One bar per method, the known-wrong ones last."""
    all_rows = rows(record)
    shown = _finite(all_rows, SNR)
    lost = [number for number, row in enumerate(shown) if row.value(SNR) <= 0]
    mark = ["◀ at the left edge: not above 0, the signal is lost in the noise."] if lost else []
    with styled():
        figure, (axes,) = blank(f"Signal-to-noise ratio\n{heading(record)}", (9, 2.4 + 0.19 * len(shown)))
        axes.set_xlabel("SNR of one step's gradient g: ‖E g‖² / tr Cov g, over whole rollouts")
        limits = _snr_axis(axes, shown)
        _bars(axes, shown, limits)
        axes.scatter([limits[0]] * len(lost), lost, marker="<", color="black", s=25, zorder=4, clip_on=False)
        _legend(axes, shown)
        fix(figure, [BARS, *mark, *absent(all_rows, shown)])
    return figure


def _points(axes: Axes, shown: Sequence[Row], x_limits: Limits, y_limits: Limits) -> None:
    for one in _kinds(shown):
        own = [row for row in shown if kind(row) is one]
        (x, *across), (y, *up) = _spans(own, BIAS, x_limits), _spans(own, VARIANCE, y_limits)
        points = axes.errorbar(x, y, xerr=across, yerr=up, fmt=one.shape, color=one.colour, label=one.meaning)
        points.lines[0].set(
            markersize=one.size, markeredgecolor="white", markeredgewidth=0.5, zorder=one.depth, clip_on=False
        )
        for bars in points.lines[2]:
            bars.set(linewidth=0.6, alpha=0.4, zorder=one.depth - 1)


def _bars(axes: Axes, shown: Sequence[Row], limits: Limits) -> None:
    for one in _kinds(shown):
        places = [number for number, row in enumerate(shown) if kind(row) is one]
        value, *ends = _spans([shown[number] for number in places], SNR, limits)
        axes.barh(places, value - limits[0], left=limits[0], color=one.colour, height=0.7, label=one.meaning)
        axes.errorbar(value, places, xerr=ends, fmt="none", ecolor="0.2", elinewidth=0.8)
    axes.set_yticks(range(len(shown)), [shorter(row.label) for row in shown], fontsize=8)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _legend(axes: Axes, shown: Sequence[Row]) -> None:
    if shown:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(KINDS), borderaxespad=0.2)


def _kinds(shown: Sequence[Row]) -> list[Kind]:
    present = set(map(kind, shown))
    return [one for one in KINDS if one in present]


def _finite(all_rows: Sequence[Row], *names: str) -> list[Row]:
    return [row for row in all_rows if row.measured and all(math.isfinite(row.value(name)) for name in names)]


def _spans(own: Sequence[Row], name: str, limits: Limits) -> NDArray[np.float64]:
    return spans([row.estimates[name] for row in own], limits)


def _snr_axis(axes: Axes, shown: Sequence[Row]) -> Limits:
    """From 0, or logarithmic if there are decades to show."""
    values = [row.value(SNR) for row in shown if row.value(SNR) > 0] or [1.0]
    if max(values) / min(values) > 10**DECADES:
        return log_axis(axes, "x", values)
    highs = [row.estimates[SNR].high for row in shown if math.isfinite(row.estimates[SNR].high)]
    limits = 0.0, 1.05 * min(max([*values, *highs]), 2 * max(values))
    axes.set_xlim(*limits)
    return limits


def _label(row: Row, x_limits: Limits, y_limits: Limits) -> Label:
    heavy = row.warning or row.method == REFERENCE
    x, y = np.clip(row.value(BIAS), *x_limits), np.clip(row.value(VARIANCE), *y_limits)
    return Label(shorter(row.label), float(x), float(y), kind(row).colour, "bold" if heavy else "normal")
