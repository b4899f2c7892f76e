'''humaneval: functions to complete from their signature and docstring, checked by hidden tests (Chen et al. 2021).

    def truncate_number(number: float) -> float:
        """ Given a positive floating point number, … Return the decimal part of the number.
        >>> truncate_number(3.5)
        0.5
        """

A body that goes on there, as models without chat write it, or a whole function in a block:

    ```python
    def truncate_number(number: float) -> float:
        return number % 1.0
    ```

Correct, for `check(truncate_number)` comes to its end. With `number // 1.0` it would be wrong: "raised AssertionError
at `assert candidate(3.5) == 0.5`". There is no training split.
'''

from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.code import Checks, CodeTask
from opd_bench.tasks.dataset import Place, Row


@dataclass(kw_only=True, eq=False)
class HumanEval(CodeTask):
    """All 164, as the authors published them."""

    name = "humaneval"
    version = "1"
    places: ClassVar = {"test": Place("humaneval/HumanEval.jsonl.gz", "test")}

    def read(self, row: Row) -> Problem:
        """The prompt is the program's header, and the tests define the function that checks."""
        checks = Checks(row["entry_point"], f"{row['test']}\ncheck({row['entry_point']})\n", header=row["prompt"])
        return Problem(row["prompt"], str(checks), row["canonical_solution"])
