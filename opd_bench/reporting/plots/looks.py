"""How each method looks in all plots of a leaderboard, and what it is called there."""

from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

from opd_bench.reporting.drawing import shorter
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.protocol import REFERENCE

Dash = Literal["-", "--", ":"]
COLOURS = ("#166F9B", "#AE9116", "#00966B", "#D56FAA", "#7939FA", "#4E93F8")
"""Okabe and Ito's, so light and dark that each has a contrast of 3 to white and to a dark page."""
INK, GREY, WRONG = "black", "0.5", "#C04605"
"""The reference; who is not told apart; and vermilion, for the known-wrong alone."""
SHAPES = ("s", "^", "D", "v", "P", "p", "<", ">", "h", "d", "*", "8")
ALL = 10
"""Methods of which each is told apart by its colour; of more, only the best and the reference."""
BEST = len(COLOURS)
MANY, OTHERS = 60, 40
"""Rows up to which all are drawn; of more, so many beside those that are told apart."""


class Look(NamedTuple):
    """A method's name as plots write it, and how its marks and lines look; `gid` is what its artists are known by."""

    name: str
    gid: str
    colour: str = GREY
    shape: str = "o"
    dash: Dash = "-"

    @property
    def chosen(self) -> bool:
        """Whether it is told apart."""
        return self.colour != GREY

    @property
    def depth(self) -> float:
        """What is known to be wrong lies on top, the grey below."""
        return 3.2 if self.colour == WRONG else 3.1 if self.chosen else 2.9


def looks(table: Table) -> dict[str, Look]:
    """Of every row, by its method. The known-wrong have a shape of their own, the reference the ink's colour."""
    told_apart, free, found = _told_apart(table.rows), _free(), {}
    for number, row in enumerate(table.rows):
        look = Look(named(row), f"method-{number}")
        if row.warning:
            look = look._replace(shape="X", colour=WRONG, dash=":")
        elif is_reference(row):
            look = look._replace(colour=INK, dash="--")
        elif row.method in told_apart:
            colour, shape, dash = next(free)
            look = look._replace(colour=colour, shape=shape, dash=dash)
        found[row.method] = look
    return found


def is_reference(row: Row) -> bool:
    """Whether differences are taken to it."""
    return row.method == REFERENCE and not row.check


def named(row: Row) -> str:
    """What a plot has room for, with a mark on what is known to be wrong."""
    return shorter(plain(row.method)) + (" ⚠" if row.warning else "")


def plain(text: str) -> str:
    """One line, without what can't be shown or written in XML."""
    shown = "".join(letter if letter.isprintable() or letter.isspace() else "\ufffd" for letter in text)
    return " ".join(shown.split()) or "(no name)"


def sentence(table: Table) -> list[str]:
    """A note that says who is told apart, if not all are."""
    if len(table.rows) <= ALL:
        return []
    return [
        f"Coloured: the {BEST} best, the reference {REFERENCE} and what is known to be wrong (⚠). Grey: the others."
    ]


def few(rows: Sequence[Row], chosen: Collection[str]) -> list[Row]:
    """All, or of very many the chosen ones and some others, evenly from the first to the last."""
    others = [row.method for row in rows if row.method not in chosen]
    if len(rows) <= MANY or len(others) <= OTHERS:
        return list(rows)
    kept = {others[round(number * (len(others) - 1) / (OTHERS - 1))] for number in range(OTHERS)} | set(chosen)
    return [row for row in rows if row.method in kept]


def left_out(all_rows: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """A note on how many rows are not drawn because they are too many."""
    more = len(all_rows) - len(rows)
    return [f"{more} of {len(all_rows)} methods are left out, evenly from best to worst."] if more else []


def _told_apart(rows: Sequence[Row]) -> set[str]:
    """All of a few; of many, the best that have an accuracy: rows come with the ranked ones first."""
    own = [row.method for row in rows if not row.warning and not is_reference(row)]
    best = [row.method for row in rows if row.method in own and row.accuracy.mean is not None and not row.check]
    return set(own if len(rows) <= ALL else best[:BEST])


def _free() -> Iterator[tuple[str, str, Dash]]:
    """Colours, which come round again dashed."""
    dashes: tuple[Dash, ...] = ("-", "--")
    for number, (dash, colour) in enumerate(product(dashes, COLOURS)):
        yield colour, SHAPES[number], dash
