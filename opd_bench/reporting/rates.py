"""What the learning rate does: each method's trials, the rate that they chose, and what it is worth on the test."""

from collections.abc import Iterator, Sequence

from opd_bench.reporting.cells import percent, safe
from opd_bench.reporting.contrasts import difference, points
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.protocol import RESULTS_OF, TRIALS
from opd_bench.reporting.top import NONE, Entry, entries, settings

SAME = "the same"


def markdown(found: Sequence[Table]) -> str:
    """A line a method, the best tuned first: what its trials solved, the chosen rate in bold, then tuned less fixed."""
    trials = settings(found, TRIALS)
    fixed, tuned = (settings(found, ruleset) for ruleset in RESULTS_OF)
    grid = sorted({row.rate for table in trials.values() for row in table.rows if row.rate})
    heads = ["method"]
    for setting in tuned:
        heads += [f"{setting}: {grid[0]:g}", *(f"{rate:g}" for rate in grid[1:]), "tuned − fixed, points"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for entry in entries(tuned):
        lines.append([f"`{safe(entry.method)}`", *_cells(entry, grid, [*trials.values()], [*fixed.values()])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(entry: Entry, grid: Sequence[float], trials: Sequence[Table], fixed: Sequence[Table]) -> Iterator[str]:
    for row, tried, other in zip(entry.rows, trials, fixed, strict=True):
        if row is None:  # an entry is ranked in every setting
            continue
        known = {one.rate: one for one in tried.rows if one.name == row.name}
        for rate in grid:
            shown = percent(known[rate].accuracy.mean) if rate in known else NONE
            yield f"**{shown}**" if rate == row.rate else shown
        yield _gain(row, next((one for one in other.rows if one.name == row.name), None))


def _gain(row: Row, fixed: Row | None) -> str:
    if fixed is None:
        return NONE
    return SAME if fixed.rate == row.rate else points(difference(row, fixed))
