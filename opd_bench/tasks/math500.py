r"""math500: 500 problems of the test split of MATH, a choice that most papers evaluate on.

Simplify $\sqrt{18}$.
It is $\boxed{3\sqrt{2}}$.  →  correct
It is $\boxed{\sqrt{18}}$.  →  correct: what is equal is right, simplified or not
It is $\boxed{4.24}$.       →  wrong
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class MATH500(Boxed):
    """MATH-500 of Lightman et al. (2023)."""

    name = "math500"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"test": Place("math500/test.jsonl", "test")}

    def read(self, row: Row) -> Problem:
        """Question, answer and worked solution."""
        return worked(text(row, "problem", "question"), text(row, "answer"), text(row, "solution"))
