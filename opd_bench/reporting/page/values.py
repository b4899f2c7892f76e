"""How numbers and what records say look in the page."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from opd_bench.reporting.cells import figure
from opd_bench.reporting.page.markup import Markup, tag
from opd_bench.reporting.statistics import Estimate

NONE = "—"
UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plain(value: float | None) -> str:
    """Three significant digits, and no powers of ten below a million."""
    if value is not None and 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return figure(value)


def percent(value: float | None, sign: str = "") -> str:
    """Of one, with one decimal."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:{sign}.1f}"


def amount(value: float | None) -> str:
    """Three digits and a letter: 27.6k."""
    unit = next(((size, letter) for size, letter in UNITS if value is not None and abs(value) >= size), None)
    return plain(value) if value is None or unit is None else f"{value / unit[0]:.3g}{unit[1]}"


def duration(seconds: float | None) -> str:
    """In the unit that fits."""
    if seconds is None or not math.isfinite(seconds):
        return plain(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def ends(value: Estimate, signed: str = "", per_cent: bool = True) -> str:
    """The interval in brackets; nothing where there is none."""
    if value.low is None or value.high is None:
        return ""
    low, high = (percent(end, signed) if per_cent else plain(end) for end in value[1:])
    return f"[{low}, {high}]"


def interval(value: Estimate, signed: str = "", per_cent: bool = True) -> Markup:
    """A mean and its interval, which line up with those above and below."""
    mean = percent(value.mean, signed) if per_cent else plain(value.mean)
    return tag(
        "span", tag("span", mean, class_="mean"), " ", tag("span", ends(value, signed, per_cent)), class_="interval"
    )


def listed(words: Iterable[str]) -> str:
    """In a sentence: a, b and c."""
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def within(record: Any, path: str) -> Any:
    """What a record has at a dotted path; None where it has nothing, whatever else it has there."""
    for key in path.split("."):
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def distinct(records: Iterable[Any], path: str) -> list[str]:
    """All that records have there, as text, each once."""
    found = {shown(value) for record in records if (value := within(record, path)) not in (None, "")}
    return sorted(found)


def shown(value: Any) -> str:
    """As a person would write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
