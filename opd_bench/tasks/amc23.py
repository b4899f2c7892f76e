r"""amc23: 40 problems of AMC 12 of 2023, put so that a number is the answer.

How many of the first 100 positive integers are squares?
There are $\boxed{10}$.    →  correct
There are $\boxed{10.0}$.  →  correct
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class AMC23(Boxed):
    """American Mathematics Competitions, 2023."""

    name = "amc23"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"test": Place("amc23/test.jsonl", "test")}

    def read(self, row: Row) -> Problem:
        """There are no worked solutions: the answer alone, in a box."""
        return worked(text(row, "question", "problem"), text(row, "answer"))
