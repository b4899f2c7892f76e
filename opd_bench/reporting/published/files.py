"""The tables that ship with the package, line by line."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
EVERY = "*"
"""In the columns paper, table and setting: all of them. A line that names more overrules one that names less."""


def lines(name: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a shipped file."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [line for _, line in numbered(text, name, columns)]


def numbered(text: str, name: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Every line with its number, or an error that names the damaged ones."""
    reader = csv.reader(io.StringIO(text, newline=""))
    if (head := next(reader, [])) != list(columns):
        raise ValueError(f"{name}, line 1: expected the columns {','.join(columns)}, got {','.join(head)}")
    found = [(reader.line_num, cells) for cells in reader]
    refuse(f"{name}, line {at}: {len(c)} cells, not {len(columns)}" for at, c in found if len(c) != len(columns))
    return [(at, dict(zip(columns, cells, strict=True))) for at, cells in found]


def refuse(complaints: Iterable[str]) -> None:
    """All complaints in one error; none, no error."""
    if said := "\n".join(complaints):
        raise ValueError(said)


def applying(found: Iterable[dict[str, str]], place: tuple[str, str, str]) -> list[dict[str, str]]:
    """The lines for a paper's table at a setting, the general ones first."""
    own = [line for line in found if all(named in (EVERY, at) for named, at in zip(_place(line), place, strict=True))]
    return sorted(own, key=lambda line: -_place(line).count(EVERY))


def _place(line: dict[str, str]) -> tuple[str, str, str]:
    return line["paper"], line["table"], line["setting"]
