"""The plots of a leaderboard, as SVG within a page and as files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from opd_bench.reporting.drawing import write
from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.plots.details import of_row
from opd_bench.reporting.plots.forest import differences
from opd_bench.reporting.plots.looks import looks
from opd_bench.reporting.plots.over_time import NORM, SOLVED, over_training
from opd_bench.reporting.plots.rates import rate_sensitivity
from opd_bench.reporting.plots.scatter import against_bias, cost_against_accuracy, variance_against_accuracy
from opd_bench.reporting.plots.themed import Words, inline
from opd_bench.reporting.plots.words import Drawing, Picture, by_gid
from opd_bench.reporting.record import short_digest

__all__ = ["Picture", "curves", "drawings", "pictures", "write_pictures"]


def pictures(table: Table, tables: Sequence[Table]) -> list[Picture]:
    """All plots that there is something to show in."""
    return [_picture(table, drawing) for drawing in drawings(table, tables)]


def curves(table: Table, row: Row) -> list[Picture]:
    """Accuracy and gradient norm of one method over training, over all others in grey."""
    return [picture for panel in (SOLVED, NORM) if (picture := of_row(table, row, panel))]


def write_pictures(table: Table, tables: Sequence[Table], folder: Path) -> list[Path]:
    """Each as PNG and as SVG, on white."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for drawing in drawings(table, tables) for path in write(drawing.figure, folder, drawing.name)]


def drawings(table: Table, tables: Sequence[Table]) -> Iterator[Drawing]:
    """One after the other, so that only one is in memory."""
    rates: tuple[Callable[[], Drawing | None], ...] = (lambda: rate_sensitivity(table, tables),)
    makers: tuple[Callable[[], Drawing | None], ...] = (
        lambda: over_training(table, SOLVED),
        lambda: differences(table),
        lambda: against_bias(table),
        lambda: variance_against_accuracy(table),
        lambda: over_training(table, NORM),
        *rates,
        lambda: cost_against_accuracy(table),
    )
    yield from (drawing for maker in (rates if table.of_trials else makers) if (drawing := maker()))


def _picture(table: Table, drawing: Drawing) -> Picture:
    words = Words(f"{drawing.name}-{short_digest(table.title)}", drawing.title, drawing.alt)
    return Picture(drawing.name, drawing.title, drawing.alt, inline(drawing.figure, words, by_gid(looks(table))))
