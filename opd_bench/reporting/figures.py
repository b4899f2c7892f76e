"""The numbers in records, by dotted name, and their means over runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from opd_bench.reporting.record import Record

SECTIONS = ("budget", "training", "evaluation", "timing")
WORDS = ("nan", "inf", "-inf")
"""How a record writes what JSON has no number for."""


def figures(record: Record) -> dict[str, float]:
    """Every single number that a run measured, such as evaluation.after.mini_gsm.greedy."""
    found: dict[str, float] = {}
    for section in SECTIONS:
        _gather(found, section, record[section])
    return found


def means(records: Sequence[Record]) -> dict[str, float]:
    """Of every figure, over the runs that have it. One infinite value makes the mean infinite, and is seen."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in figures(record).items():
            found.setdefault(name, []).append(value)
    with np.errstate(over="ignore", invalid="ignore"):  # numpy's sum is the same in every Python
        return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def over_tasks(record: Record, name: str) -> float:
    """The mean of a figure of a finished run's last evaluation."""
    return float(np.mean([task[name] for task in record["evaluation"]["after"].values()]))


def number(value: Any) -> float | None:
    """What a record says as a number or as one of the words for those that JSON lacks; None is no number."""
    if value in WORDS or (isinstance(value, int | float) and not isinstance(value, bool)):
        return float(value)
    return None


def _gather(found: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _gather(found, f"{name}.{key}", item)
    elif (known := number(value)) is not None:
        found[name] = known
