"""What the learning rate does: each method's trials, the rate that they chose, and what it is worth on the test."""

from collections.abc import Iterator, Mapping, Sequence

from opd_bench.reporting.cells import percent, safe
from opd_bench.reporting.contrasts import difference, points
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.protocol import RESULTS_OF, TRIALS
from opd_bench.reporting.top import NONE, entries, settings

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
        cells = [f"`{safe(entry.method)}`"]
        for setting, row in zip(tuned, entry.rows, strict=True):
            cells += _cells(row, grid, _rows(trials, setting, row), _rows(fixed, setting, row))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rows(tables: Mapping[str, Table], setting: str, row: Row | None) -> list[Row]:
    """Of the same method and setting under another ruleset."""
    known = tables[setting].rows if setting in tables else []
    return [one for one in known if row and one.name == row.name and not one.check]


def _cells(row: Row | None, grid: Sequence[float], trials: Sequence[Row], fixed: Sequence[Row]) -> Iterator[str]:
    solved = {one.rate: percent(one.accuracy.mean) for one in trials}
    own = row.rate if row else None
    for rate in grid:
        shown = solved.get(rate, NONE)
        yield f"**{shown}**" if rate == own and rate in solved else shown
    if not row or len(fixed) != 1:
        yield NONE
    else:
        yield SAME if fixed[0].rate == own else points(difference(row, fixed[0]))
