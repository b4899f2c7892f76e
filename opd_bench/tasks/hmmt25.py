r"""hmmt25: the 30 problems of the Harvard-MIT Mathematics Tournament of February 2025.

Compute the area of a triangle with sides 5, 5 and 6.
It is $\boxed{12}$.            →  correct
It is $\boxed{\frac{24}{2}}$.  →  correct
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class HMMT25(Boxed):
    """HMMT of February 2025, as MathArena has it."""

    name = "hmmt25"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"test": Place("hmmt25/test.jsonl", "train")}

    def read(self, row: Row) -> Problem:
        """There are no worked solutions: the answer alone, in a box."""
        return worked(text(row, "problem", "question"), text(row, "answer"))
