"""What the papers print, number by number."""

import math
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from opd_bench.reporting.published.files import FOLDER, numbered, refuse

FILE = "results.csv"
COLUMNS = ("paper", "table", "setting", "method", "metric", "value", "source")
MAY_BE_EMPTY = "setting"
"""A table whose rows name the models has none."""


class Published(NamedTuple):
    """One number as it was printed, and where it was read."""

    paper: str
    table: str
    setting: str
    method: str  # as the paper calls it
    metric: str
    value: float
    source: str


def numbers() -> list[Published]:
    """All of them, in the order of the file."""
    return parsed((FOLDER / FILE).read_text(encoding="utf-8"), FILE)


def parsed(text: str, name: str) -> list[Published]:
    """The numbers of a file. What is damaged, or there twice, is refused by its line."""
    found = numbered(text, name, COLUMNS)
    refuse(f"{name}, line {at}: {complaint}" for at, complaint in _complaints(found))
    return [Published(**(line | {"value": float(line["value"])})) for _, line in found]  # type: ignore[arg-type]


def chosen(found: Iterable[Published], **wanted: str | None) -> list[Published]:
    """Those with these values, field by field; None: any. An error names a value that none has."""
    left = list(found)
    for field, value in wanted.items():
        if value is not None:
            left = only(left, field, value, [getattr(number, field) for number in left])
    return left


def only(
    found: Sequence[Published], field: str, value: str, names: Sequence[str], also: Sequence[str] = ()
) -> list[Published]:
    """The numbers whose name, of those in the same order, is this value; `also` are names to suggest beside them."""
    if value not in names:
        raise ValueError(f"nothing published of {field} {value!r}{_instead(value, [*names, *filter(None, also)])}")
    return [number for number, name in zip(found, names, strict=True) if name == value]


def _complaints(found: list[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, str]]:
    first: dict[tuple[str, ...], int] = {}
    for at, line in found:
        if missing := [column for column in COLUMNS if not line[column] and column != MAY_BE_EMPTY]:
            yield at, f"no {', '.join(missing)}"
        elif not _is_number(line["value"]):
            yield at, f"value {line['value']!r} is not a number"
        elif (same := first.setdefault(tuple(line[column] for column in COLUMNS[:5]), at)) != at:
            yield at, f"the same paper, table, setting, method and metric as line {same}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _instead(value: str, names: Iterable[str]) -> str:
    """Near names in any case, or all: as `configs.near`, which is on the same stair."""
    known = list(dict.fromkeys(names))
    matches = get_close_matches(value.casefold(), {name.casefold() for name in known}, n=3, cutoff=0.5)
    near = [repr(name) for match in matches for name in known if name.casefold() == match]
    return f", did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(map(repr, known))}"
