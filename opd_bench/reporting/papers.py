"""The published table that an experiment names, beside what was measured here."""

from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.published import Comparison, Metric, compared, reference_of

FIGURES = {"acc": "greedy"}
"""A paper's words for figures that are called otherwise here; avg@k is `sampled` of k samples."""


def comparison(table: Table) -> Comparison | None:
    """None where the runs name no table that there is, or not all the same one."""
    records = [record for row in table.rows for record in row.runs]
    references = [reference_of(record) for record in records]
    if not references or references[0] is None or any(other != references[0] for other in references):
        return None
    rows = {row.method: row for row in (*table.rows, *table.anchors)}
    try:
        return compared(references[0], lambda method, metric: _measured(table, rows.get(method), metric), records[0])
    except ValueError:  # a run refuses such a reference; a record may come from anyone
        return None


def _measured(table: Table, row: Row | None, metric: Metric) -> float | None:
    """In percent; None where there is no such row, task or figure."""
    if row is None or metric.task not in table.tasks:
        return None
    sampled = f"avg@{table.tasks[metric.task].get('samples')}"
    figure = "sampled" if metric.figure == sampled else FIGURES.get(metric.figure, metric.figure)
    value = row.means.get(f"evaluation.after.{metric.task}.{figure}")
    return None if value is None else 100 * value
