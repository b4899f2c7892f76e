r"""deepmath: hard problems with answers that can be checked, free of the usual benchmarks.

Evaluate the limit of $\frac{\sin 3x}{x}$ at 0.
… which is $\boxed{3}$.             →  correct
… which is $\boxed{\frac{6}{2}}$.   →  correct
… which is $\boxed{\frac{1}{3}}$.   →  wrong
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class DeepMath(Boxed):
    """DeepMath-103K of He et al. (2025)."""

    name = "deepmath"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"train": Place("deepmath/train.jsonl", "train")}

    def read(self, row: Row) -> Problem:
        """The first of the three solutions, which a reasoning model wrote."""
        solution = text(row, "r1_solution_1") if row.get("r1_solution_1") else ""
        return worked(text(row, "question"), text(row, "final_answer"), solution)
