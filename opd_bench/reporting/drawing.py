"""What all plots share: the style, the kinds of methods, logarithmic axes, notes, and files. No pyplot, no display."""

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.scale import SymmetricalLogScale
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from opd_bench.reporting.probe_rows import OWN, Interval, Row
from opd_bench.reporting.record import write_whole

STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.93",
    "legend.frameon": False,
    "text.parse_math": False,  # a method may be called $x
    "svg.hashsalt": "opd_bench",  # the same picture is the same file
}
LONGEST = 28
"""Characters of a name that a plot has room for."""
MARGIN = 2.5
"""Free space on a logarithmic axis on either side of the values, as a factor."""
BARS = "Thin lines: 95 % intervals, cut off at the frame."
LINEAR = 1.5
"""Relative bias up to which its axis is linear throughout."""
BIASES = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 100, 1000, 10_000)
"""Marked on its axis."""
Limits = tuple[float, float]
Which = Literal["x", "y"]


class Kind(NamedTuple):
    """How some of the methods look: shapes differ too, for who can't tell the colours, which are Okabe and Ito's."""

    meaning: str
    shape: str
    colour: str
    size: float
    depth: float


COMMON = Kind("common rollouts", "o", "#0072B2", 6, 3)
OTHER = Kind("rollouts of its own source", "s", "#009E73", 6, 3.1)
WRONG = Kind("known to be wrong ⚠", "X", "#D55E00", 9, 3.2)
KINDS = (COMMON, OTHER, WRONG)


def kind(row: Row) -> Kind:
    """Being wrong counts for more than who wrote the tokens."""
    return WRONG if row.warning else OTHER if row.rollouts == OWN else COMMON


def styled(more: Mapping[str, Any] = MappingProxyType({})) -> AbstractContextManager[None]:
    """The same look whatever the user's own settings are, which it leaves as they were."""
    return matplotlib.style.context(["default", STYLE, dict(more)])


def blank(title: str, size: tuple[float, float], panels: int = 1, columns: int = 0) -> tuple[Figure, list[Axes]]:
    """A figure with a title and so many axes, side by side or in so many columns."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    axes = figure.subplots(math.ceil(panels / (columns or panels)), columns or panels, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure, list(axes.flat)


def fix(figure: Figure, notes: Iterable[str]) -> None:
    """Notes below, as wide as the figure; then nothing moves any more, so that labels can be placed."""
    figure.supxlabel("\n".join(wrapped(notes, figure.get_figwidth())), x=0.01, ha="left", fontsize=8, color="0.3")
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # and no other is to run when it is drawn


def wrapped(notes: Iterable[str], width: float) -> list[str]:
    """Their lines in a figure so many inches wide."""
    return [line for note in notes for line in textwrap.wrap(note, int(16 * width))]


def log_axis(axes: Axes, which: Which, values: Iterable[float], margin: float = MARGIN) -> Limits:
    """A logarithmic axis around the positive ones of the values, with plain numbers."""
    known = [value for value in values if 0 < value < math.inf] or [1.0]
    limits = min(known) / margin, max(known) * margin
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits})
    axis = _axis(axes, which)
    axis.set_major_locator(LogLocator(subs=_marked(limits[1] / limits[0]), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return limits


def bias_axis(axes: Axes, which: Which, values: Iterable[float]) -> Limits:
    """From 0 to 1 linear. A bias of many times the gradient's size must not press all others together."""
    largest = max([1.0, *filter(math.isfinite, values)])
    limits = -0.15, 1.1 * largest + 0.05  # the unbiased ones crowd at 0 and need room for their names
    if largest > LINEAR:
        axes.set(**{f"{which}scale": SymmetricalLogScale(axis=None, linthresh=1, linscale=2)})
    axes.set(**{f"{which}lim": limits})
    axis = _axis(axes, which)
    axis.set_major_locator(FixedLocator([tick for tick in BIASES if tick <= limits[1]]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return limits


def share_axis(axes: Axes, which: Which, values: Iterable[float]) -> Limits:
    """Per cent, no wider than the values need."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 100.0]
    low, high = (min(max(end(known), 0.0), 100.0) for end in (min, max))
    pad = max(0.06 * (high - low), 1.0)
    axes.set(**{f"{which}lim": (low - pad, high + pad)})
    return low - pad, high + pad


def spans(intervals: Sequence[Interval], limits: Limits) -> NDArray[np.float64]:
    """Values and how far their intervals go down and up, [3, methods], nothing of it outside the limits."""
    ends = np.array(intervals, dtype=float).reshape(-1, len(Interval._fields)).T
    value, low, high = np.clip(np.where(np.isnan(ends), ends[0], ends), *limits)
    return np.stack([value, value - np.minimum(low, value), np.maximum(high, value) - value])


def shorter(name: str) -> str:
    """What a plot has room for."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def absent(all_rows: Sequence[Row], shown: Sequence[Row]) -> list[str]:
    """A note that names the methods that are not in the plot."""
    missing = [row for row in all_rows if row not in shown]
    names = [shorter(row.label) + ("" if row.measured else f" ({row.status})") for row in missing]
    return [f"Not shown, for want of a finite number: {', '.join(names)}."] if names else []


def as_png(figure: Figure) -> bytes:
    """On white, so that it can be read on a dark page too."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format="png")
    return content.getvalue()


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """As PNG and SVG, each written whole."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with styled():
        for path in paths:
            content, form = io.BytesIO(), path.suffix[1:]
            figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else {})
            write_whole(path, content.getvalue())
    return paths


def _marked(span: float) -> Sequence[float]:
    """What is marked of each decade."""
    return (1.0,) if span > 1e3 else (1.0, 2.0, 5.0) if span > 5 else np.arange(1.0, 10.0).tolist()


def _axis(axes: Axes, which: Which) -> Axis:
    return axes.xaxis if which == "x" else axes.yaxis
