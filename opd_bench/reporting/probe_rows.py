"""What a probe record says of each method, in the order in which all tables and plots show it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from opd_bench.reporting.figures import number
from opd_bench.reporting.record import Record

MEASURED = "measured"
OWN = "own"
"""Rollouts that the method's own source wrote."""
READING = (
    "Variance alone ranks nothing: a reward that ignores the sampled token (state_only) can vary less than the right "
    "one, and its expected gradient is 0: bias 1, SNR 0. Read variance beside bias and cosine, or read the SNR."
)


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval; NaN is what nobody can tell."""

    value: float
    low: float = math.nan
    high: float = math.nan


class Row(NamedTuple):
    """One method of a probe; what was not measured is in neither mapping."""

    method: str
    title: str
    warning: str
    status: str
    reason: str
    rollouts: str
    estimates: Mapping[str, Interval]
    exact: Mapping[str, float]
    seconds: float | None

    @property
    def label(self) -> str:
        """The name on one line, marked if something is known to be wrong with the method."""
        name = " ".join(self.method.split())
        return f"{name} ⚠" if self.warning else name

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return self.status == MEASURED

    def value(self, name: str) -> float:
        """An estimate without its interval; NaN if there is none."""
        return self.estimates[name].value if name in self.estimates else math.nan


def rows(record: Record) -> list[Row]:
    """By SNR, the highest first; then the known-wrong ones likewise; then what could not be measured, by name."""
    found = [_row(name, method) for name, method in (record.get("methods") or {}).items()]
    return sorted(found, key=_place)


def heading(record: Record) -> str:
    """Which gradients these are, on one line."""
    checkpoint = record["checkpoint"]
    return " ".join(f"{protocol(record)} · {checkpoint['name']} · {_when(checkpoint)}".split())


def protocol(record: Record) -> str:
    """What two probes must share to be compared."""
    return f"{record['protocol']['name']} ({record['protocol']['digest']})"


def notes(record: Record, all_rows: list[Row]) -> list[str]:
    """What went wrong: with the whole probe, and with each method that has no numbers."""
    stopped = [f"The probe is {record['status']}: {record.get('reason') or 'no reason given'}"]
    lines = stopped if record["status"] != "finished" else []
    return lines + [
        f"{row.label}: {row.status}{row.reason and f', {row.reason}'}" for row in all_rows if not row.measured
    ]


def _when(checkpoint: Mapping[str, Any]) -> str:
    progress, step = number(checkpoint.get("progress")), checkpoint.get("step")
    return f"step {step}" if progress is None else f"{100 * progress:g} % of the run, step {step}"


def _row(name: str, method: Mapping[str, Any]) -> Row:
    words = {key: str(method.get(key) or "") for key in ("title", "warning", "status", "reason", "rollouts")}
    exact = {key: number(value) for key, value in (method.get("exact") or {}).items()}
    return Row(
        method=name,
        estimates=dict(_intervals(method.get("estimates") or {})),
        exact={key: value for key, value in exact.items() if value is not None},
        seconds=number(method.get("seconds")),
        **words,
    )


def _intervals(estimates: Mapping[str, Any]) -> list[tuple[str, Interval]]:
    found = []
    for name, estimate in estimates.items():
        ends = {end: number(estimate.get(end)) for end in Interval._fields} if estimate else {}
        if ends.get("value") is not None:
            found.append((name, Interval(**{end: value for end, value in ends.items() if value is not None})))
    return found


def _place(row: Row) -> tuple[bool, bool, float, str]:
    snr = row.value("snr")
    return not row.measured, row.measured and bool(row.warning), math.inf if math.isnan(snr) else -snr, row.method
