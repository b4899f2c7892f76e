r"""minerva: 272 problems of university courses in the sciences, many of them with rounded answers.

    A source of 10 W shines for 3 s. What energy does it give, in joules?
    It gives $\boxed{30}$.                 →  correct
    It gives $\boxed{30.2 \text{ J}}$.     →  correct: within 1 %, and units are dropped
    It gives $\boxed{3.0 \times 10^{1}}$.  →  correct
    It gives $\boxed{0.03 \text{ kJ}}$.    →  wrong: the question says which unit, and none is converted

A number is right within 1 % of the answer, as in the evaluation that the problems were made for; formulas are compared
exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.boxed import Boxed
from opd_bench.tasks.dataset import Place


@dataclass(kw_only=True, eq=False)
class Minerva(Boxed):
    """OCWCourses of Lewkowycz et al. (2022)."""

    name = "minerva"
    version = "1"
    tolerance = 0.01
    places: ClassVar[Mapping[str, Place]] = {"test": Place("minerva/test.jsonl", "test")}
