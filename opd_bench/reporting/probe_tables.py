"""A probe for the terminal, as Markdown, and as comma-separated values in full precision."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from opd_bench.reporting.cells import NAMED, figure, grid, safe, sheet
from opd_bench.reporting.figures import number
from opd_bench.reporting.probe_rows import OWN, READING, Interval, Row, heading, notes, protocol, rows
from opd_bench.reporting.record import Record


class Column(NamedTuple):
    """An estimate, or a number from the enumeration in logit space, and what it means."""

    head: str
    name: str
    meaning: str
    exact: bool = False
    bare: bool = False  # without its interval


SNR = Column("SNR", "snr", "signal over variance of one step's gradient; the rows' order")
TO_OPD = Column("var. to opd", "variance_to_opd", "the variance over opd's in the same rollout sets; below 1 is less")
BIAS = Column(
    "bias", "bias_reverse_kl", "‖E g − E h‖ / ‖E h‖, h the exact reverse-KL gradient; no gradient at all has 1"
)
COSINE = Column("cosine", "cosine_reverse_kl", "between E g and E h; 1 is the same direction")
RELATIVE = Column("rel. variance", "relative_variance", "variance over ‖E h‖²")
VARIANCE = Column("variance", "variance", "tr Cov g of one step's gradient g, over new rollouts of the same prompts")
SIGNAL = Column("signal", "signal", "‖E g‖², unbiased: below 0 where it is lost in the noise")
NORM = Column("norm", "norm", "mean ‖g‖ of one step")
SINGLE = Column("cosine of one", "cosine_single_reverse_kl", "mean cosine of a single step's g to its own h")
FORWARD = (
    Column("bias to forward", "bias_forward_kl", "as bias, to the exact forward-KL gradient"),
    Column("cosine to forward", "cosine_forward_kl", "as cosine, to the exact forward-KL gradient"),
    Column(
        "cosine of one to forward", "cosine_single_forward_kl", "as cosine of one, to the exact forward-KL gradient"
    ),
)
TOKEN = Column("token variance", "token_variance", "what is left of the variance if only the scored token is redrawn")
SHARE = Column("token share", "token_share", "token variance over variance: the part that a baseline can act on")
EXACT = (
    Column("exact variance", "relative_variance", "of one token's gradient in the logits, relative", exact=True),
    Column("exact bias", "bias_reverse_kl", "to the reverse KL, in the logits", exact=True),
    Column("exact cosine", "cosine_reverse_kl", "to the reverse KL, in the logits", exact=True),
    Column("exact bias to forward", "bias_forward_kl", "to the forward KL, in the logits", exact=True),
    Column("exact cosine to forward", "cosine_forward_kl", "to the forward KL, in the logits", exact=True),
)
ALWAYS = 3
TERMINAL = (SNR, BIAS, TO_OPD, COSINE, RELATIVE, SHARE, *EXACT[:2], *FORWARD[:2])
"""The most important first: there is always room for three, if need be without intervals. No variance without bias."""
SECTIONS: Mapping[str, tuple[Column, ...]] = {
    "Size, over whole rollouts": (SNR, TO_OPD, RELATIVE, VARIANCE, SIGNAL, NORM),
    "Direction, over whole rollouts": (BIAS, COSINE, SINGLE, *FORWARD),
    "Only the scored token redrawn": (TOKEN, SHARE),
    "Exact, in the logits": EXACT,
}
ALIKE = "Values come with their 95 % interval; nan: lost in the noise; ⚠: known to be wrong, listed after the others."


def terminal(record: Record, width: int) -> Table:
    """For people at a terminal: what does not fit is left out, and the caption says so."""
    all_rows = rows(record)
    kept = _fitting(all_rows, width)
    absent = [column.head for column in TERMINAL if column.head not in {shown.head for shown in kept}]
    lines = [f"{column.head}: {column.meaning}" for column in kept] + [READING, ALIKE]
    lines += [f"A wider terminal shows {', '.join(absent)} too, and all intervals."] if absent else []
    return _grid(all_rows, kept, heading(record), lines + notes(record, all_rows))


def markdown(record: Record, plots: Sequence[str]) -> str:
    """What was measured, all of its numbers, how to read them, and the plots."""
    all_rows = rows(record)
    lines = [
        f"# Gradients: {safe(heading(record))}\n",
        " ".join(map(safe, _measured(record) if record.get("probe") else ())),
        "",
    ]
    lines += [f"![{safe(PurePath(plot).stem.replace('_', ' '))}]({quote(plot)})\n" for plot in plots]
    lines += [f"**How to read it.** {safe(READING)} {safe(ALIKE)}\n"]
    warnings = [f"{row.label}: {row.warning}" for row in all_rows if row.measured and row.warning]
    lines += [f"- {safe(note)}" for note in notes(record, all_rows) + warnings]
    return "\n".join([*lines, *(_section(title, SECTIONS[title], all_rows) for title in SECTIONS)])


def as_csv(record: Record) -> str:
    """One line per method: where and when, and every number."""
    checkpoint = record["checkpoint"]
    common = {
        "protocol": protocol(record),
        "checkpoint": checkpoint["name"],
        "progress": number(checkpoint.get("progress")),
        "step": checkpoint.get("step"),
        "seed": record.get("seed"),
        **{f"probe.{name}": number(value) for name, value in (record.get("probe") or {}).items()},
    }
    return sheet([common | _line(row) for row in rows(record)])


def _fitting(all_rows: list[Row], width: int) -> list[Column]:
    """First the intervals of the columns that are always there, then more columns, as long as there is room."""
    kept = [column._replace(bare=True) for column in TERMINAL[:ALWAYS]]
    for place, column in enumerate(TERMINAL):
        more = [*kept[:place], column, *kept[place + 1 :]]
        if _needed(_grid(all_rows, more, "", [])) <= width:
            kept = more
    return kept


def _needed(table: Table) -> int:
    """How wide a terminal has to be for a table not to be squeezed."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _grid(all_rows: list[Row], columns: Sequence[Column], title: str, caption: Sequence[str]) -> Table:
    cells = [[row.label, *_cells(row, columns)] for row in all_rows]
    table = grid(title, "\n".join(caption), [NAMED, *(column.head for column in columns)], cells)
    table.caption_justify = "left"
    return table


def _section(title: str, columns: Sequence[Column], all_rows: list[Row]) -> str:
    """The first table has all methods; the others those that have something to say there."""
    shown = [row for row in all_rows if SNR in columns or any(_known(row, column) for column in columns)]
    lines = [f"\n## {title}\n", *(f"- **{column.head}**: {safe(column.meaning)}" for column in columns), ""]
    lines += [f"| {NAMED} | {' | '.join(column.head for column in columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [f"| {' | '.join(map(safe, (row.label, *_cells(row, columns))))} |" for row in shown]
    return "\n".join(lines) + "\n"


def _cells(row: Row, columns: Sequence[Column]) -> Iterator[str]:
    """Where there is no SNR because nothing was measured, its place says why."""
    for column in columns:
        if column.exact:
            yield figure(row.exact.get(column.name))
        elif column.name == SNR.name and not row.measured:
            yield row.status
        else:
            yield _estimate(row.estimates.get(column.name), column.bare)


def _known(row: Row, column: Column) -> bool:
    return column.name in (row.exact if column.exact else row.estimates)


def _estimate(estimate: Interval | None, bare: bool) -> str:
    """Three significant digits, and two for the ends of the interval, if it has any."""
    if estimate is None:
        return "—"
    value, *ends = estimate
    interval = "" if bare or any(map(math.isnan, ends)) else f" [{', '.join(_brief(end, 2) for end in ends)}]"
    return _brief(value, 3) + interval


def _brief(value: float, digits: int) -> str:
    """No 1.2e+03 for 1234."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.{digits}g}"


def _measured(record: Record) -> Iterator[str]:
    """What was done, in sentences."""
    probe, checkpoint = record["probe"], record["checkpoint"]
    count = {name: f"{number(value) or 0:,.0f}" for name, value in probe.items()}
    yield (
        f"At {checkpoint['name']}, {count['sets']} independent sets of rollouts of the same {count['prompts']} prompts "
        f"were drawn (seed {record['seed']}), with {count['tokens']} response tokens a set on average."
    )
    yield "Of each set every method's gradient was taken, as a training step would; the variance is over the sets."
    yield f"The scored tokens alone were redrawn {count['redraws']} times a set at fixed prefixes."
    yield f"In logit space, the moments are those at {count['prefixes']} prefixes of the same rollouts."
    yield _space(probe, count)
    if any(method.get("rollouts") == OWN for method in record["methods"].values()):
        yield "Methods marked (own) learn from tokens that their own source wrote; the others share the same rollouts."


def _space(probe: Mapping[str, Any], count: Mapping[str, str]) -> str:
    """All parameters, or a sketch of them and what that costs."""
    if probe["numbers"] == probe["parameters"]:
        return f"Gradients are of all {count['parameters']} parameters."
    error = 100 * (number(probe["sketch_error"]) or 0)
    return (
        f"Gradients of {count['parameters']} parameters were sketched to {count['numbers']} numbers, "
        f"which gives a squared norm a relative standard deviation of {error:.2g} %."
    )


def _line(row: Row) -> dict[str, Any]:
    """Words first; then numbers, by dotted name."""
    line: dict[str, Any] = {key: getattr(row, key) for key in ("method", "title", "warning", "rollouts", "status")}
    line |= {"reason": row.reason, "seconds": row.seconds}
    for name, estimate in row.estimates.items():
        line |= {f"estimates.{name}.{end}": value for end, value in estimate._asdict().items()}
    return line | {f"exact.{name}": value for name, value in row.exact.items()}
