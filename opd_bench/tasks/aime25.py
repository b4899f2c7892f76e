r"""aime25: the 30 problems of AIME I and II of 2025; answers are whole numbers from 0 to 999.

How many positive divisors does 2025 have?
It has $\boxed{15}$.  →  correct
It has 15.           →  wrong, not formatted
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class AIME25(Boxed):
    """American Invitational Mathematics Examination, 2025."""

    name = "aime25"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"test": Place("aime25/test.jsonl", "test")}

    def read(self, row: Row) -> Problem:
        """There are no worked solutions: the answer alone, in a box."""
        return worked(text(row, "problem", "question"), text(row, "answer"))
