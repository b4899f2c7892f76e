r"""math: problems of mathematical competitions, from pre-algebra to pre-calculus.

What is the sum of the roots of $x^2 - 6x + 1$?
By Vieta's formulas it is $\boxed{6}$.  →  correct
By Vieta's formulas it is 6.           →  wrong, not formatted
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.answers import boxed
from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class CompetitionMath(Boxed):
    """MATH of Hendrycks et al. (2021): 7,500 problems to train on and 5,000 to test; MATH-500 is a part of these."""

    name = "math"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {
        "train": Place("math/train.jsonl", "train", "default"),
        "test": Place("math/test.jsonl", "test", "default"),
    }

    def read(self, row: Row) -> Problem | None:
        """The answer is what is in the last box of the solution; the few solutions that have none are left out."""
        solution = text(row, "solution")
        answer = boxed(solution)
        return worked(text(row, "problem", "question"), answer, solution) if answer else None
