"""Names beside the points of a plot: none over another, each with a thin line back to its point."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""Left, bottom, right and top of each, in pixels."""
RINGS = np.geomspace(7, 300, 28)
"""Distances from the point that are tried, in points of 1/72 inch."""
ANGLES = np.deg2rad(np.concatenate([np.arange(0, 360, 45), np.arange(15, 360, 15)]))
"""Directions that are tried, in this order."""
STEPS = np.linspace(0.15, 0.9, 12)
"""Where along its line a label's line is looked at."""
MARKER = 5.0
"""Half the width that a point's marker takes, in points."""
CROWD = 20.0
"""How near points are that crowd each other, in points."""
HALO = [withStroke(linewidth=2, foreground="white")]
ARROW = {"arrowstyle": "-", "color": "0.45", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
SIZE = 8
LINE = 10.5
"""Height that a name takes in a column, in points."""
LEAD = 22.0
"""From the axes to a column of names, in points."""
GAP = 1.5
"""What stays free around a label, in pixels."""


class Label(NamedTuple):
    """A name and where its point is, in data coordinates."""

    text: str
    x: float
    y: float
    colour: str
    weight: str = "normal"
    gid: str | None = None
    dash: str = "-"


class Taken(NamedTuple):
    """What no label may cover: markers and lines; and what no line may cross: labels."""

    marks: list[Boxes]
    labels: list[Boxes]


def place(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Each label at the nearest free place; the heavy ones choose first, then those in a crowd. The axes are final."""
    if not labels:
        return []
    pixel = axes.figure.dpi / 72
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    taken = Taken([_box(point, MARKER * pixel) for point in points], [])
    crowd = np.exp(-np.linalg.norm(points[:, None] - points, axis=-1) / (CROWD * pixel)).sum(-1)
    order = sorted(range(len(labels)), key=lambda number: (labels[number].weight == "normal", -crowd[number]))
    return [_placed(axes, labels[number], points[number], taken) for number in order]


def room(texts: Sequence[str]) -> float:
    """The width that `beside` needs for the longest of them, in inches."""
    figure = Figure()
    FigureCanvasAgg(figure)  # measures text
    widths = [figure.text(0, 0, text, size=SIZE).get_window_extent().width / figure.dpi for text in texts]
    return max(widths, default=0) + (LEAD + 2) / 72


def beside(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Names in a column right of the axes, as near to the heights of their points as there is room. The axes are final.

    The frame is as high as it is: names that are too many for it go on above it.
    """
    pixel = axes.figure.dpi / 72
    points = axes.transData.transform([(label.x, label.y) for label in labels]).reshape(-1, 2)
    line = LINE * pixel
    heights = _spread(points[:, 1], line, (axes.bbox.y0, axes.bbox.y1 - line / 2))
    notes = []
    for label, point, height in zip(labels, points, heights, strict=True):
        offset = (axes.bbox.x1 - point[0]) / pixel + LEAD, (height - point[1]) / pixel
        arrow = ARROW | {"color": label.colour, "linestyle": label.dash, "linewidth": 1.3, "relpos": (0, 0.5)}
        more = {"ha": "left", "annotation_clip": False, "arrowprops": arrow}
        notes.append(_note(axes, label._replace(colour="black"), offset, more))
    return notes


def _spread(heights: Boxes, gap: float, frame: tuple[float, float]) -> Boxes:
    """Heights at least a gap apart in the same order, from the bottom up and then from the top down."""
    order = np.argsort(heights, kind="stable")
    places = np.clip(heights[order], frame[0], frame[1])
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + gap)
    limit = max(frame[1], frame[0] + gap * (len(places) - 1))
    for number in reversed(range(len(places))):
        places[number] = min(places[number], limit)
        limit = places[number] - gap
    spread = np.empty_like(places)
    spread[order] = places
    return spread


def _placed(axes: Axes, label: Label, point: Boxes, taken: Taken) -> Annotation:
    pixel = axes.figure.dpi / 72
    note = _note(axes, label, (0, 0), {"ha": "center", "path_effects": HALO, "arrowprops": ARROW})
    half = _half_size(note)
    offset = _free(point, half, taken, (pixel, np.array(axes.bbox.extents)))
    note.set_position(tuple(offset / pixel))
    taken.labels.append(_box(point + offset, half))
    taken.marks.extend(_box(point + step * offset, 1.0) for step in STEPS)
    return note


def _note(axes: Axes, label: Label, offset: tuple[float, float], more: Mapping[str, Any]) -> Annotation:
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        va="center",
        color=label.colour,
        weight=label.weight,
        size=SIZE,
        gid=label.gid,
        **more,
    )


def _free(point: Boxes, half: Boxes, taken: Taken, frame: tuple[float, Boxes]) -> Boxes:
    """The nearest offset where the label is in the frame and covers nothing; if there is none, right beside."""
    pixel, inside = frame
    labels, everything = (np.array(boxes).reshape(-1, 4) for boxes in (taken.labels, taken.labels + taken.marks))

    def is_free(offset: Boxes) -> bool:
        box = _box(point + offset, half + GAP)
        kept = (box[:2] >= inside[:2]).all() and (box[2:] <= inside[2:]).all()
        if not kept or _overlap(box[None], everything).any():
            return False
        line = np.array([_box(point + step * offset, 1.0) for step in STEPS])
        return not bool(_overlap(line, labels).any())

    return next(filter(is_free, _offsets(half, pixel)), next(_offsets(half, pixel)))


def _offsets(half: Boxes, pixel: float) -> Iterator[Boxes]:
    """Of the label's middle to its point, the nearest first."""
    for ring in RINGS * pixel:
        for angle in ANGLES:
            way = np.array([np.cos(angle), np.sin(angle)])
            yield way * (ring + half)


def _half_size(note: Annotation) -> Boxes:
    """Of the text, without the line to its point."""
    extent = Text.get_window_extent(note)
    return np.array([extent.width, extent.height]) / 2


def _box(middle: Boxes, half: float | Boxes) -> Boxes:
    return np.concatenate([middle - half, middle + half])


def _overlap(some: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """Whether each of some covers part of each of the others."""
    one, other = some[:, None], others[None]
    return np.asarray(((one[..., :2] < other[..., 2:]) & (other[..., :2] < one[..., 2:])).all(-1))
