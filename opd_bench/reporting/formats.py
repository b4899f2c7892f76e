"""A leaderboard for the terminal, as Markdown, and as comma-separated values in full precision."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table as Shown

from opd_bench.reporting.cells import figure, grid, safe, sheet
from opd_bench.reporting.figures import Estimate, figures
from opd_bench.reporting.leaderboard import Row, Table

COLUMNS: tuple[str, ...] = ("rank", "method", "seeds", "sampled % [95 %]", "greedy %", "AUC %", "to opd [95 %]")
COLUMNS += ("‖g‖", "rel. variance", "bias", "s")
SHARES = ("evaluation.after.greedy", "training.auc")
PLAIN = ("training.gradient_norm.median", "training.gradient.relative_variance", "training.gradient.bias_reverse_kl")
IDENTITY = ("seed", "start", "status", "reason", "created", "id")
WIDE = 115
LEFT_OUT = ("greedy %", "AUC %", "‖g‖", "rel. variance", "bias", "s")
CAPTION = "Means over seeds [95 % bootstrap interval]. Fewer than five seeds or a ⚠: not ranked."


def terminal(table: Table, width: int) -> Shown:
    """For people at a terminal: a narrow one leaves some columns out and says so."""
    kept = [number for number, column in enumerate(COLUMNS) if width >= WIDE or column not in LEFT_OUT]
    narrow = [f"A terminal {WIDE} wide shows {', '.join(LEFT_OUT)} too."] if width < WIDE else []
    caption = "\n".join([CAPTION, *narrow, *table.notes])
    rows = [[row[number] for number in kept] for row in _cells(table)]
    return grid(table.title, caption, [COLUMNS[number] for number in kept], rows)


def markdown(all_tables: Iterable[Table]) -> str:
    """Every table, with its notes."""
    return "# Leaderboard\n\n" + "\n".join(map(_section, all_tables))


def as_csv(all_tables: Iterable[Table]) -> str:
    """One line per method: its place, its intervals, and the mean of every figure."""
    return sheet([_method(t, place, row) for t in all_tables for place, row in enumerate(t.rows, 1)])


def runs_csv(all_tables: Iterable[Table]) -> str:
    """One line per run that counts, finished or not."""
    lines = []
    for table in all_tables:
        for row in table.rows:
            own = {"protocol": table.title, "method": row.method}
            lines += [own | {key: run[key] for key in IDENTITY} | figures(run) for run in row.runs]
    return sheet(lines)


def _section(table: Table) -> str:
    lines = [f"## {safe(table.title)}\n", f"| {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"]
    lines += [f"| {' | '.join(map(safe, row))} |" for row in _cells(table)]
    lines += ["", *(f"- {safe(note)}" for note in (CAPTION, *table.notes))]
    return "\n".join(lines) + "\n"


def _cells(table: Table) -> Iterator[tuple[str, ...]]:
    """What is shown of each row; nothing but accuracy of a model that no method trained."""
    for place, row in enumerate(table.rows, 1):
        yield str(place) if row.ranked else "—", *_of_row(row)
    for row in table.anchors:
        _, *cells = (cell if cell != "—" else "" for cell in _of_row(row))
        yield "", row.method, *cells


def _of_row(row: Row) -> tuple[str, ...]:
    seconds = row.means.get("timing.seconds.total")
    return (
        f"{row.method} ⚠" if row.warning else row.method,
        _seeds(row),
        _interval(row.sampled),
        *(_percent(row.means.get(name)) for name in SHARES),
        _interval(row.difference, "+"),
        *(figure(row.means.get(name)) for name in PLAIN),
        "—" if seconds is None else f"{seconds:.0f}",
    )


def _seeds(row: Row) -> str:
    if not row.attempted:
        return "—"
    return str(row.finished) if row.finished == row.attempted else f"{row.finished} of {row.attempted}"


def _interval(value: Estimate, sign: str = "") -> str:
    mean = _percent(value.mean, sign)
    if value.low is None or value.high is None:
        return mean
    return f"{mean} [{_percent(value.low)}, {_percent(value.high)}]"


def _percent(value: float | None, sign: str = "") -> str:
    return "—" if value is None else f"{100 * value:{sign}.1f}"


def _method(table: Table, place: int, row: Row) -> dict[str, Any]:
    return {
        "protocol": table.title,
        "rank": place if row.ranked else None,
        "method": row.method,
        "warning": row.warning,
        "finished": row.finished,
        "attempted": row.attempted,
        **dict(zip(("sampled", "sampled_low", "sampled_high"), row.sampled, strict=True)),
        **dict(zip(("difference", "difference_low", "difference_high"), row.difference, strict=True)),
        **row.means,
    }
