"""One method against another, seed by seed: what a claim about the two comes down to."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from opd_bench.reporting.cells import figure, safe, with_ends
from opd_bench.reporting.figures import figures, over_tasks
from opd_bench.reporting.leaderboard import SEED, Row, Table
from opd_bench.reporting.record import Record, RecordError
from opd_bench.reporting.statistics import Estimate, interval
from opd_bench.reporting.top import USUAL

Reader = Callable[[Record], float]


class Contrast(NamedTuple):
    """A method less (or over) another in one table; every estimate is over the seeds that both finished."""

    table: str
    method: str
    other: str
    seeds: int
    sampled: Estimate  # differences of shares
    greedy: Estimate
    norm: Estimate  # ratio of the gradient norms' medians
    variance: Estimate  # ratio of the relative variances at the prefixes of the runs themselves
    bias: tuple[float | None, float | None]


def contrasts(tables: Sequence[Table], pairs: Sequence[tuple[str, str]], seed: int = SEED) -> list[Contrast]:
    """Of every pair, in every table that has both."""
    ordered = sorted(tables, key=lambda table: (table.protocol.get("setting") != USUAL, table.title))
    found = [_contrast(table, *rows, seed) for pair in pairs for table in ordered if (rows := _both(table, pair))]
    known = {row.method for table in tables for row in table.rows}
    if missing := [name for pair in pairs for name in pair if name not in known]:
        raise RecordError(f"no table has {missing[0]!r}; there are {', '.join(sorted(known))}")
    return found


def markdown(found: Sequence[Contrast]) -> str:
    """A table; differences in points, 95 % intervals in brackets."""
    heads = (
        "protocol",
        "method",
        "against",
        "solved, points",
        "greedily, points",
        "‖g‖, times",
        "variance, times",
        "bias",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|" + "---:|" * 5]
    lines += [f"| {' | '.join(_cells(one))} |" for one in found]
    return "\n".join(lines) + "\n"


def _cells(one: Contrast) -> Iterator[str]:
    yield from (one.table, f"`{safe(one.method)}`", f"`{safe(one.other)}`")
    yield from (points(one.sampled), points(one.greedy), _times(one.norm), _times(one.variance))
    yield " / ".join(figure(value) for value in one.bias)


def _both(table: Table, pair: tuple[str, str]) -> tuple[Row, Row] | None:
    rows = {row.method: row for row in table.rows if row.runs}
    return (rows[pair[0]], rows[pair[1]]) if set(pair) <= set(rows) else None


def _contrast(table: Table, ours: Row, theirs: Row, seed: int) -> Contrast:
    pairs = _same_seeds(ours, theirs)
    return Contrast(
        table.protocol["name"],
        ours.method,
        theirs.method,
        len(pairs),
        _compared(pairs, _mean_of("sampled"), float.__sub__, seed),
        _compared(pairs, _mean_of("greedy"), float.__sub__, seed),
        _exponential(_compared(pairs, _named("training.gradient_norm.median"), _log_ratio, seed)),
        _exponential(_compared(pairs, _named("training.gradient.relative_variance"), _log_ratio, seed)),
        (_bias(ours), _bias(theirs)),
    )


def difference(ours: Row, theirs: Row, seed: int = SEED) -> Estimate:
    """Of what two rows solve, seed by seed; they may be of two tables."""
    return _compared(_same_seeds(ours, theirs), _mean_of("sampled"), float.__sub__, seed)


def points(value: Estimate) -> str:
    """A difference with its interval, each with its sign."""
    return with_ends(value, "+", "+")


def _compared(
    pairs: Sequence[tuple[Record, Record]], read: Reader, compare: Callable[[float, float], float], seed: int
) -> Estimate:
    """Over seeds, those of one start being a stratum."""
    values = np.array([[compare(read(one), read(other))] for one, other in pairs], dtype=float)
    return interval(values.reshape(-1, 1), seed, strata=[one["start"] for one, _ in pairs])


def _same_seeds(ours: Row, theirs: Row) -> list[tuple[Record, Record]]:
    one, other = ({run["seed"]: run for run in row.runs if run["status"] == "finished"} for row in (ours, theirs))
    return [(one[number], other[number]) for number in sorted({*one} & {*other})]


def _mean_of(name: str) -> Reader:
    return lambda record: over_tasks(record, name)


def _named(name: str) -> Reader:
    return lambda record: figures(record).get(name, math.nan)


def _log_ratio(one: float, other: float) -> float:
    """NaN where one of them is 0: such a pair has no interval, and no ratio worth one."""
    return math.log(one / other) if one > 0 and other > 0 else math.nan


def _exponential(value: Estimate) -> Estimate:
    return Estimate(*(None if part is None or math.isnan(part) else math.exp(part) for part in value))


def _bias(row: Row) -> float | None:
    return row.means.get("training.gradient.bias_reverse_kl")


def _times(value: Estimate) -> str:
    if value.mean is None:
        return "—"
    shown = figure(value.mean)
    return shown if value.low is None else f"{shown} [{figure(value.low)}, {figure(value.high)}]"
