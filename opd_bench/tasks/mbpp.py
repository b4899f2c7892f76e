"""mbpp: small Python functions from a sentence and three tests that are shown (Austin et al. 2021).

    You are an expert Python programmer, and here is your task: Write a function to find the shared elements from the
    given two lists. Your code should pass these tests:

    assert set(similar_elements((3, 4, 5, 6), (5, 7, 4, 10))) == set((4, 5))
    …

    ```python
    def similar_elements(first, second):
        return tuple(set(first) & set(second))
    ```

Correct, for all of the tests pass. With `|` in place of `&` it would be wrong: "raised AssertionError at `assert …`".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.code import Checks, CodeTask
from opd_bench.tasks.dataset import Place, Row

NUMBERS = {"train": range(601, 975), "validation": range(511, 601), "test": range(11, 511)}
"""The authors' splits; problems 1 to 10 are for prompts with examples."""
DEFINED = re.compile(r"^(?:def|class) +(\w+)", re.MULTILINE)


@dataclass(kw_only=True, eq=False)
class MBPP(CodeTask):
    """The full set; its one file holds all splits."""

    name = "mbpp"
    version = "1"
    places: ClassVar = {split: Place("mbpp/mbpp.jsonl", split, "full") for split in NUMBERS}

    def cases(self, row: Row, split: str) -> Iterable[Row]:
        """By its number, which the Hub's splits go by as well."""
        return (row,) if row["task_id"] in NUMBERS[split] else ()

    def read(self, row: Row) -> Problem:
        """The question is the sentence and its tests. What is checked is what of the solution the tests call."""
        tests = "\n".join(row["test_list"])
        defined = DEFINED.findall(row["code"])
        called = [name for name in defined if re.search(rf"\b{name}\b", tests)]
        checks = Checks(next(reversed(called or defined), ""), f"{row['test_setup_code']}\n{tests}\n")
        return Problem(f"{row['text']} Your code should pass these tests:\n\n{tests}", str(checks), row["code"])
