"""The answer in one short table: the ranked methods side by side in every setting of a protocol's version."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opd_bench.reporting.cells import safe, with_ends
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.record import RecordError

USUAL = "standard"
"""The setting that comes first."""
NONE = "—"
ANCHORS = {"(student before)": "untrained student", "(teacher)": "teacher"}


class Entry(NamedTuple):
    """A method and its row in each setting, none where it did not run."""

    method: str
    rows: Sequence[Row | None]

    @property
    def ranked(self) -> bool:
        """Whether it has a band in every setting."""
        return all(row is not None and row.band is not None for row in self.rows)

    @property
    def order(self) -> tuple[int, float, str]:
        """The sum of its bands, since nothing else is claimed; of equal ones, the one that solves more."""
        known = [row for row in self.rows if row is not None]
        solved = sum(row.accuracy.mean or 0 for row in known)
        return sum(row.band or 0 for row in known), -solved, self.method


def settings(tables: Iterable[Table], ruleset: str) -> dict[str, Table]:
    """The table of each setting under a ruleset, the usual setting first."""
    found: dict[str, Table] = {}
    for table in tables:
        if table.protocol.get("ruleset") == ruleset:
            setting = str(table.protocol.get("setting") or table.protocol["name"])
            if setting in found:
                raise RecordError(f"{found[setting].title} and {table.title} are both of {setting}; say which FOLDER")
            found[setting] = table
    if not found:
        raise RecordError(f"no records of the ruleset {ruleset}")
    return dict(sorted(found.items(), key=lambda item: (item[0] != USUAL, item[0])))


def entries(tables: Mapping[str, Table]) -> list[Entry]:
    """Methods that are ranked in every setting, the best first."""
    return sorted((entry for entry in _methods(tables) if entry.ranked), key=lambda entry: entry.order)


def unranked(tables: Mapping[str, Table]) -> list[Entry]:
    """The others, but for checks: those that have too few seeds somewhere, then those known to be wrong."""
    found = [entry for entry in _methods(tables) if not entry.ranked]
    return sorted(found, key=lambda entry: (any(row and row.warning for row in entry.rows), entry.order[1:]))


def top(tables: Mapping[str, Table], rows: int | None = None) -> str:
    """Markdown: a line a method, and one each for the untrained student and the teacher."""
    rates = any(table.tuned for table in tables.values())
    columns = ("band", "lr", "solved %") if rates else ("band", "solved %")
    heads = [f"{setting}: {column}" for setting in tables for column in columns]
    lines = [["method", *heads], ["---", *["---:"] * len(heads)]]
    for entry in entries(tables)[:rows]:
        lines.append([f"`{safe(entry.method)}`", *(cell for row in entry.rows for cell in _cells(row, rates))])
    for name, words in ANCHORS.items():
        found = [_anchor(table, name) for table in tables.values()]
        if any(row is not None for row in found):
            lines.append([words, *(cell for row in found for cell in _cells(row, rates))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _methods(tables: Mapping[str, Table]) -> Iterator[Entry]:
    known = [{row.method: row for row in table.rows if not row.check} for table in tables.values()]
    for method in sorted({name for rows in known for name in rows}):
        yield Entry(method, [rows.get(method) for rows in known])


def _anchor(table: Table, name: str) -> Row | None:
    return next((row for row in table.anchors if row.method == name), None)


def _cells(row: Row | None, rates: bool) -> list[str]:
    """Of a model that no method trained, its accuracy alone."""
    if row is None:
        return [NONE] * (2 + rates)
    own = [NONE if row.band is None else str(row.band), *([f"{row.rate:g}"] if rates and row.rate else [NONE] * rates)]
    return [*(own if row.runs else [""] * len(own)), with_ends(row.accuracy)]
