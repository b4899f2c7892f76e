"""What all tables share: how text and numbers look in a cell, a sheet of values, and a frame for the terminal."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from opd_bench.reporting.statistics import (
        Estimate,
    )  # brings scipy along, which the papers' numbers need not wait for

NAMED = "method"
"""The column that says whose row it is."""


def safe(text: str) -> str:
    """Neither a new cell, nor a new line, nor HTML."""
    for special in "\\|<":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())


def figure(value: float | None) -> str:
    """Three significant digits; rounding errors are 0."""
    return "—" if value is None else "0" if abs(value) < 1e-9 else f"{value:.3g}"


def percent(value: float | None, sign: str = "") -> str:
    """A share in hundredths, with one decimal."""
    return "—" if value is None else f"{100 * value:{sign}.1f}"


def with_ends(value: "Estimate", sign: str = "", sign_of_ends: str = "") -> str:
    """A share with its interval, if it has one, in hundredths."""
    mean = percent(value.mean, sign)
    if value.low is None or value.high is None:
        return mean
    return f"{mean} [{percent(value.low, sign_of_ends)}, {percent(value.high, sign_of_ends)}]"


def law(config: Mapping[str, Any]) -> str:
    """How sampled responses are drawn, by a run's configuration; older ones have no word on it, and had T = 1."""
    plan = config.get("evaluation") or {}
    mass, number = plan.get("top_p", 1), plan.get("top_k", 0)
    more = [f"top-p {mass:g}"] * (mass != 1) + [f"top-k {number}"] * (number != 0)
    return ", ".join([f"T = {plan.get('temperature', 1):g}", *more])


def grid(title: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table for the terminal. Text, unlike a string, is shown as it is, markup or not."""
    shown = Table(
        title=Text(title, style="table.title"),
        caption=Text(caption, style="table.caption"),
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )
    for column in columns:
        named = column == NAMED
        shown.add_column(Text(column), justify="left" if named else "right", no_wrap=named)
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def sheet(lines: Sequence[Mapping[str, Any]]) -> str:
    """What all lines have comes first, as it stands; the figures that only some have follow in alphabetical order."""
    first = [key for key in (lines[0] if lines else {}) if "." not in key]
    columns = first + sorted({key for line in lines for key in line if "." in key})
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
