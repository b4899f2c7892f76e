"""A leaderboard for the terminal, as Markdown, and as comma-separated values in full precision."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table as Shown

from opd_bench.reporting import papers
from opd_bench.reporting.cells import figure, grid, percent, safe, sheet, with_ends
from opd_bench.reporting.figures import figures
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.published import beside_markdown
from opd_bench.reporting.statistics import Estimate

COLUMNS: tuple[str, ...] = (
    "band",
    "method",
    "lr",
    "seeds",
    "solved % [95 %]",
    "to opd [95 %]",
    "p",
    "better than opd %",
)
COLUMNS += ("normalised IQM [95 %]", "reverse KL", "‖g‖", "rel. variance [95 %]", "bias", "s")
ENDS = ("", "_low", "_high")
PLAIN = ("training.reverse_kl.last", "training.gradient_norm.median")
VARIANCE, BIAS = "training.gradient.relative_variance", "training.gradient.bias_reverse_kl"
IDENTITY = ("seed", "start", "status", "reason", "created", "id")
WIDE = 150
LEFT_OUT = ("p", "better than opd %", *COLUMNS[8:])
CAPTION = (
    "Means over seeds [95 % interval for other seeds from the same starts], of sampled answers. Methods of one band "
    "can't be told from its best. p: sign flips of the paired differences, Holm-adjusted; before that, five seeds "
    "allow none below 0.0625. "
    "Unranked: fewer than five finished seeds, a ⚠ (known to be wrong), or a check."
)
TRIED = (
    "Trials choose each method's learning rate. They are judged on the validation split and are no results: "
    "what the chosen rates come to is in the tuned tables."
)


def terminal(table: Table, width: int) -> Shown:
    """For people at a terminal: a narrow one leaves some columns out and says so."""
    kept = _kept(table, width)
    narrow = [f"A terminal {WIDE} wide shows {', '.join(LEFT_OUT)} too."] if width < WIDE else []
    caption = "\n".join([_caption(table), *narrow, *table.notes])
    rows = [[row[number] for number in kept] for row in _cells(table)]
    return grid(table.title, caption, [COLUMNS[number] for number in kept], rows)


def unshown(table: Table) -> str:
    """In the place of a table of trials, which is long and says nothing of results."""
    runs = sum(row.attempted for row in table.rows)
    return f"{table.title}: {runs} runs, in the files alone.\n"


def markdown(all_tables: Iterable[Table]) -> str:
    """Every table, with its notes."""
    found = list(all_tables)
    compared = [comparison for table in found if (comparison := papers.comparison(table))]
    beside = "\n" + beside_markdown(compared) if compared else ""
    return "# Leaderboard\n\n" + "\n".join(map(_section, found)) + beside


def as_csv(all_tables: Iterable[Table]) -> str:
    """One line per row: its band, its intervals, and the mean of every figure."""
    return sheet([_method(table, row) for table in all_tables for row in (*table.rows, *table.anchors)])


def runs_csv(all_tables: Iterable[Table]) -> str:
    """One line per run that counts, finished or not."""
    lines = []
    for table in all_tables:
        for row in table.rows:
            own = {"protocol": table.title, "method": row.method}
            lines += [own | {key: run[key] for key in IDENTITY} | figures(run) for run in row.runs]
    return sheet(lines)


def _section(table: Table) -> str:
    kept = _kept(table)
    heads = " | ".join(COLUMNS[number] for number in kept)
    lines = [f"## {safe(table.title)}\n", f"| {heads} |", f"|---|---|{'---:|' * (len(kept) - 2)}"]
    lines += [f"| {' | '.join(safe(row[number]) for number in kept)} |" for row in _cells(table)]
    lines += ["", *(f"- {safe(note)}" for note in (_caption(table), *table.notes))]
    return "\n".join(lines) + "\n"


def _kept(table: Table, width: int = WIDE) -> list[int]:
    """Places of the columns that are shown: the learning rate where each method has its own."""
    hidden = {*(LEFT_OUT if width < WIDE else ()), *(() if table.tuned else ("lr",))}
    return [place for place, column in enumerate(COLUMNS) if column not in hidden]


def _caption(table: Table) -> str:
    return TRIED if table.of_trials else CAPTION


def _cells(table: Table) -> Iterator[tuple[str, ...]]:
    """What is shown of each row; nothing but accuracy of a model that no method trained."""
    for row in table.rows:
        yield "—" if row.band is None else str(row.band), *_of_row(row)
    for row in table.anchors:
        _, *cells = (cell if cell != "—" else "" for cell in _of_row(row))
        yield "", row.method, *cells


def _of_row(row: Row) -> tuple[str, ...]:
    seconds = row.means.get("timing.seconds.total")
    return (
        f"{row.method} ⚠" if row.warning else row.method,
        figure(row.rate),
        _seeds(row),
        with_ends(row.accuracy),
        with_ends(row.difference, "+"),
        "—" if row.p is None else f"{row.p:.2g}",
        percent(row.better.mean),
        _plain_interval(row.middle),
        *(figure(row.means.get(name)) for name in PLAIN),
        _plain_interval(row.estimates.get(VARIANCE, Estimate(None))),
        figure(row.means.get(BIAS)),
        "—" if seconds is None else f"{seconds:.0f}",
    )


def _plain_interval(value: Estimate) -> str:
    ends = "" if value.low is None or value.high is None else f" [{figure(value.low)}, {figure(value.high)}]"
    return figure(value.mean) + ends


def _seeds(row: Row) -> str:
    if not row.attempted:
        return "—"
    return str(row.finished) if row.finished == row.attempted else f"{row.finished} of {row.attempted}"


def _method(table: Table, row: Row) -> dict[str, Any]:
    """Everything, in full precision."""
    named = {"accuracy": row.accuracy, "iqm": row.middle, "difference": row.difference, "better": row.better}
    ends = {f"{name}.{end}": getattr(own, end) for name, own in row.estimates.items() for end in ("low", "high")}
    method = row.runs[0]["method"] if row.runs else {}
    return {
        "protocol": table.title,
        "band": row.band,
        "method": row.method,
        "warning": row.warning,
        "check": row.check,
        "provenance": method.get("provenance", ""),
        "finished": row.finished,
        "attempted": row.attempted,
        "p": row.p,
        **{f"{name}{end}": value for name, own in named.items() for end, value in zip(ENDS, own, strict=True)},
        "learning_rate": row.rate,
        "records": " ".join(run["id"] for run in row.runs),
        **row.means,
        **ends,
    }
