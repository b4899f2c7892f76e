"""A leaderboard as Markdown, as CSV and for the terminal."""

import csv
import io
from collections.abc import Iterable, Iterator

from rich import box
from rich.markup import escape
from rich.table import Table as Shown

from opd_bench.reporting.leaderboard import Estimate, Table

COLUMNS: tuple[str, ...] = ("rank", "method", "seeds", "sampled % [95 %]", "greedy %", "AUC %", "to opd [95 %]")
COLUMNS += ("‖g‖", "rel. variance", "bias", "s")
CAPTION = "Means over seeds [95 % bootstrap interval]. Fewer than five seeds or a ⚠: not ranked."


def cells(table: Table) -> Iterator[tuple[str, ...]]:
    """What is shown of each row, and of the untrained student."""
    for place, row in enumerate(table.rows, 1):
        yield (
            str(place) if row.ranked else "—",
            f"{row.method} ⚠" if row.warning else row.method,
            str(row.finished) if row.finished == row.attempted else f"{row.finished} of {row.attempted}",
            _interval(row.sampled),
            _percent(row.greedy),
            _percent(row.auc),
            _interval(row.difference, "+"),
            *(_figure(value) for value in (row.norm, row.variance, row.bias)),
            "—" if row.seconds is None else f"{row.seconds:.0f}",
        )
    yield "", "(untrained student)", "", _interval(table.start), *[""] * (len(COLUMNS) - 4)


def terminal(table: Table) -> Shown:
    """For people at a terminal."""
    caption = "\n".join([CAPTION, *map(escape, table.notes)])
    shown = Shown(title=table.title, caption=caption, box=box.SIMPLE_HEAD, collapse_padding=True)
    for number, column in enumerate(COLUMNS):
        shown.add_column(column, justify="left" if number == 1 else "right", no_wrap=number == 1)
    for row in cells(table):
        shown.add_row(*map(escape, row))
    return shown


def markdown(all_tables: Iterable[Table]) -> str:
    """Every table, with its notes."""
    parts = []
    for table in all_tables:
        lines = [f"## {table.title}\n", f"| {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells(table)]
        notes = [f"- {note}".replace("\n", " ") for note in table.notes]
        parts.append("\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else ""))
    return "# Leaderboard\n\n" + "\n".join(parts)


def as_csv(all_tables: Iterable[Table]) -> str:
    """Every row in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    estimates = [f"{name}{end}" for name in ("sampled", "difference") for end in ("", "_low", "_high")]
    plain = ("finished", "attempted", "greedy", "auc", "norm", "variance", "bias", "seconds")
    writer.writerow(["protocol", "method", "warning", *estimates, *plain])
    for table in all_tables:
        for row in table.rows:
            figures = [getattr(row, name) for name in plain]
            writer.writerow([table.title, row.method, row.warning, *row.sampled, *row.difference, *figures])
    return text.getvalue()


def _interval(value: Estimate, sign: str = "") -> str:
    if value.mean is None:
        return "—"
    mean = f"{100 * value.mean:{sign}.1f}"
    return (
        mean if value.low is None or value.high is None else f"{mean} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    )


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f}"


def _figure(value: float | None) -> str:
    """Three significant digits; rounding errors are 0."""
    return "—" if value is None else "0" if abs(value) < 1e-9 else f"{value:.3g}"
