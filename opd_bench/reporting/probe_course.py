"""One figure of some methods at every student of a run that was probed: a table for a page."""

from collections.abc import Sequence
from pathlib import Path

from opd_bench.reporting.cells import figure, safe
from opd_bench.reporting.figures import number
from opd_bench.reporting.probe_rows import Interval, Row, rows
from opd_bench.reporting.record import PROBE, Record, RecordError, read_record
from opd_bench.reporting.top import USUAL


def probes_in(folder: Path) -> list[Record]:
    """All probes below a folder, by protocol and by how far the run had come."""
    found = [read_record(path, PROBE) for path in folder.rglob(PROBE.file)]
    if not found:
        raise RecordError(f"no probes in {folder}; make probe CHECKPOINT=RUN makes some")
    return sorted(found, key=lambda record: (*_setting(record), _progress(record)))


def course(records: Sequence[Record], name: str, methods: Sequence[str]) -> str:
    """Markdown: a line for a method in a protocol, a column for each student, values with their 95 % interval."""
    stages = sorted({_progress(record) for record in records})
    lines = [
        f"| protocol | method | {' | '.join(f'at {stage:.0%}' for stage in stages)} |",
        "|---|---|" + "---:|" * len(stages),
    ]
    for protocol in dict.fromkeys(record["protocol"]["name"] for record in records):
        own = {_progress(record): record for record in records if record["protocol"]["name"] == protocol}
        for method in methods:
            cells = [_cell(own[stage], name, method) if stage in own else "" for stage in stages]
            lines.append(f"| {protocol} | `{safe(method)}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _setting(record: Record) -> tuple[bool, str]:
    return record["protocol"].get("setting") != USUAL, record["protocol"]["name"]


def _progress(record: Record) -> float:
    return number(record["checkpoint"].get("progress")) or 0.0


def _cell(record: Record, name: str, method: str) -> str:
    known: dict[str, Row] = {row.method: row for row in rows(record)}
    if method not in known:
        raise RecordError(f"no probe of {method!r}; there are {', '.join(sorted(known))}")
    estimates = known[method].estimates
    if name not in estimates and known[method].measured:
        raise RecordError(f"probes have no {name!r}; there are {', '.join(sorted(estimates))}")
    return _shown(estimates[name]) if name in estimates else "—"


def _shown(value: Interval) -> str:
    return f"{figure(value.value)} [{figure(value.low)}, {figure(value.high)}]"
