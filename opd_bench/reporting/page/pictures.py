"""The plots of a page: who draws them, and how one is put in."""

from collections.abc import Sequence
from typing import Protocol

from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.page.markup import Markup, tag


class Picture(Protocol):
    """A plot as SVG, which says in its own title and description what it shows."""

    @property
    def name(self) -> str:
        """Like a file's, and no other of its table has it."""

    @property
    def title(self) -> str:
        """A heading."""

    @property
    def alt(self) -> str:
        """What it says, with its main numbers."""

    @property
    def svg(self) -> str:
        """Markup that is safe: names in it are escaped."""


class Plots(Protocol):
    """Who draws: a module with these two functions."""

    def pictures(self, table: Table, tables: Sequence[Table], /) -> Sequence[Picture]:
        """Of a whole table."""

    def curves(self, table: Table, row: Row, /) -> Sequence[Picture]:
        """Of one method."""


class NoPlots:
    """A page without plots."""

    def pictures(self, table: Table, tables: Sequence[Table], /) -> Sequence[Picture]:
        """None."""
        return ()

    def curves(self, table: Table, row: Row, /) -> Sequence[Picture]:
        """None."""
        return ()


def figure(picture: Picture) -> Markup:
    """A plot below its title, and in words for who wants them."""
    words = tag("details", tag("summary", "In words"), tag("p", picture.alt))
    return tag("figure", tag("figcaption", picture.title), Markup(picture.svg), words)
