"""A paper's number and ours, side by side and in the paper's order: nothing here ranks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opd_bench.reporting.published.grouped import Group, Metric, groups, metrics
from opd_bench.reporting.published.results import chosen, numbers
from opd_bench.reporting.published.setups import Difference, differences, here
from opd_bench.reporting.record import Record

REFERENCE = ("paper", "table", "setting")
Measured = Callable[[str, Metric], float | None]
"""(METHOD or METHOD[field=value] or "(student before)" or "(teacher)", metric) → ours, shares in percent, or None."""


class Beside(NamedTuple):
    """One published number and ours, both in the paper's unit."""

    metric: str
    method: str  # ours; empty: there is none
    paper_method: str
    paper_value: float
    here: float | None


class Comparison(NamedTuple):
    """One table of a paper beside ours, and what was not the same."""

    group: Group
    rows: list[Beside]
    differences: list[Difference]


def reference_of(record: Record) -> Mapping[str, Any] | None:
    """The published table that a run's experiment names, if it names one."""
    found: Mapping[str, Any] | None = record["config"].get("published")
    return found


def beside(reference: Mapping[str, Any], measured: Measured) -> list[Beside]:
    """Every number of the table that {paper, table, setting} names, with ours where there is one."""
    return _rows(referred(reference), measured)


def compared(reference: Mapping[str, Any], measured: Measured, record: Record) -> Comparison:
    """The numbers of a table beside ours, and how the record's set-up differs from the paper's."""
    group = referred(reference)
    return Comparison(group, _rows(group, measured), differences(group.setup, here(record)))


def referred(reference: Mapping[str, Any]) -> Group:
    """The table that {paper, table, setting} names; an error says which of them is unknown."""
    if set(reference) != set(REFERENCE):
        raise ValueError(f"published: expected the fields {', '.join(REFERENCE)}, got {', '.join(map(str, reference))}")
    (group,) = groups(chosen(numbers(), **{field: str(reference[field]) for field in REFERENCE}))
    return group


def _rows(group: Group, measured: Measured) -> list[Beside]:
    known = metrics()
    return [
        Beside(metric, ours, method, value, _ours(measured, ours, known[metric]))
        for method, ours, values in zip(group.methods, group.our_names, group.values, strict=True)
        for metric, value in zip(group.metrics, values, strict=True)
        if value is not None
    ]


def _ours(measured: Measured, method: str, metric: Metric) -> float | None:
    value = measured(method, metric) if method else None
    return value / 100 if value is not None and metric.unit == "share" else value
