"""What the curves of a leaderboard show of each row: the series of its runs, read once, smoothed, and thinned."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from opd_bench.reporting.files import Series, read_series
from opd_bench.reporting.leaderboard import Row
from opd_bench.reporting.record import RecordError
from opd_bench.reporting.statistics import TWO_SIDED

SOLVED, JUDGED, NORM = "train/accuracy", "eval/sampled", "grad/norm"
Numbers = NDArray[np.float32]
Matrix = NDArray[np.float64]
"""A value for each run and step, NaN where there is none."""
Source = tuple[str, str, tuple[tuple[str, str], ...]]
RUNS = 20
"""Runs of a row that are read: the first by seed."""
KEPT = 512
"""Rows whose curves are kept."""
POINTS = 150
"""Points of a curve."""
SMOOTH = 20
"""The steps of a run are so many times those that a point is the mean of."""


class Curve(NamedTuple):
    """One value a step and how far it reaches over the seeds, NaN where that is not known."""

    steps: Numbers
    middle: Numbers
    low: Numbers
    high: Numbers

    @property
    def known(self) -> bool:
        """Whether there is anything to draw."""
        return bool(np.isfinite(self.middle).any())

    @property
    def banded(self) -> bool:
        """Whether there is a band anywhere."""
        return bool(np.isfinite(self.low).any())

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last value."""
        known = self.middle[np.isfinite(self.middle)]
        return float(known[0]), float(known[-1])

    @property
    def end(self) -> tuple[float, float]:
        """Where the curve ends."""
        last = np.flatnonzero(np.isfinite(self.middle))[-1]
        return float(self.steps[last]), float(self.middle[last])


class Reading(NamedTuple):
    """The curves of one row."""

    solved: Curve  # share of rollouts, %: mean of the runs, smoothed, and its 95 % interval
    judged: Curve  # share of validation problems, %, where they were judged
    norm: Curve  # median, smallest and largest of the runs
    steps: int  # of the longest run
    window: int  # steps that a point of `solved` is the mean of
    runs: int
    lost: int  # runs whose series can't be read
    more: int  # runs that were not read
    endless: int  # infinite norms


def reading(row: Row) -> Reading:
    """Of a row's finished runs."""
    finished = [run for run in row.runs if run["status"] == "finished"]
    sources = tuple(_source(run) for run in finished[:RUNS])
    return _reading(sources)._replace(more=len(finished) - len(sources))


def thin(curve: Curve, points: int) -> Curve:
    """The same at fewer steps, evenly."""
    if len(curve.steps) <= points:
        return curve
    at = np.linspace(0, len(curve.steps) - 1, points).round().astype(int)
    return Curve(*(part[at] for part in curve))


def envelope(curve: Curve, points: int) -> Curve:
    """The same at fewer steps: of each few steps the lowest and the highest, so that no spike is lost."""
    if len(curve.steps) <= points:
        return curve
    parts = np.array_split(np.arange(len(curve.steps)), points // 2)
    kept = [_extremes(part, curve.middle) for part in parts]
    low, high = (
        np.concatenate([np.full(len(at), pick.reduce(ends[part])) for part, at in zip(parts, kept, strict=True)])
        for pick, ends in ((np.fmin, curve.low), (np.fmax, curve.high))
    )
    at = np.concatenate(kept)
    return Curve(curve.steps[at], curve.middle[at], low, high)


def smooth(values: Matrix, window: int) -> Matrix:
    """Means over the known ones of `window` steps around each; NaN where none of them is known."""
    known, kernel = np.isfinite(values), np.ones(window)
    if not known.any():
        return np.full(len(values), np.nan)
    sums, counts = (np.convolve(part, kernel, "same") for part in (np.where(known, values, 0), known.astype(float)))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def with_interval(values: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Mean in % over the runs that have a step, and Student's 95 % interval where at least two do, cut at 0 and 100."""
    known = np.isfinite(values)
    count = known.sum(0)
    mean = np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan)
    squares = (np.where(known, values - mean, 0) ** 2).sum(0) / np.maximum(count - 1, 1)
    reach = stdtrit(np.maximum(count - 1, 1), TWO_SIDED) * np.sqrt(squares / np.maximum(count, 1))
    reach = np.where(count > 1, reach, np.nan)
    return mean, np.maximum(mean - reach, 0), np.minimum(mean + reach, 100)


def with_extremes(values: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Median over the runs that have a step; the smallest and the largest where at least two do."""
    if not len(values):
        return values.sum(0), values.sum(0), values.sum(0)
    several = np.isfinite(values).sum(0) > 1
    with warnings.catch_warnings(action="ignore"):  # steps that no run has
        middle, low, high = (pick(values, 0) for pick in (np.nanmedian, np.nanmin, np.nanmax))
    return middle, np.where(several, low, np.nan), np.where(several, high, np.nan)


@lru_cache(KEPT)
def _reading(sources: tuple[Source, ...]) -> Reading:
    found = [series for source in sources if (series := _series(source)) is not None]
    steps = max((len(column) for series in found for column in series.values()), default=0)
    window = 2 * round(steps / (2 * SMOOTH)) + 1
    norms = _matrix(found, NORM, steps)
    norms[norms <= 0] = np.nan  # which a logarithmic axis has no place for
    endless = int(np.isinf(norms).sum())
    norms[np.isinf(norms)] = np.nan
    return Reading(
        thin(_curve(with_interval(_matrix(found, SOLVED, steps, lambda own: smooth(100 * own, window)))), POINTS),
        _judged(_curve(with_interval(100 * _matrix(found, JUDGED, steps)))),
        envelope(_curve(with_extremes(norms)), POINTS),
        steps,
        window,
        runs=len(found),
        lost=len(sources) - len(found),
        more=0,
        endless=endless,
    )


def _source(run: Mapping[str, Any]) -> Source:
    """What a run's series are found by, and what they are known to be."""
    return run["id"], run.get("folder", ""), tuple(sorted(run["files"].items()))


def _series(source: Source) -> Series | None:
    """The three that are drawn, or nothing if they can't be read."""
    _, folder, files = source
    try:
        series = read_series({"folder": folder, "files": dict(files)})
    except (RecordError, OSError, ValueError):
        return None
    return {name: series[name] for name in (SOLVED, JUDGED, NORM) if name in series}


def _matrix(found: Sequence[Series], name: str, steps: int, change: Callable[[Matrix], Matrix] | None = None) -> Matrix:
    """A row a run, as long as the longest."""
    matrix = np.full((len(found), steps), np.nan)
    for row, series in zip(matrix, found, strict=True):
        own = series.get(name, np.empty(0))
        row[: len(own)] = change(own) if change else own
    return matrix


def _curve(parts: tuple[Matrix, Matrix, Matrix]) -> Curve:
    steps = np.arange(1, len(parts[0]) + 1)
    return Curve(*(part.astype(np.float32) for part in (steps, *parts)))


def _judged(curve: Curve) -> Curve:
    """Where there is something."""
    known = np.isfinite(curve.middle)
    return thin(Curve(*(part[known] for part in curve)), POINTS // 4)


def _extremes(part: NDArray[np.int64], values: Numbers) -> NDArray[np.int64]:
    """Where the lowest and the highest are, in their order; of a gap, its beginning."""
    known = part[np.isfinite(values[part])]
    if not len(known):
        return part[:1]
    return np.unique([known[values[known].argmin()], known[values[known].argmax()]])
