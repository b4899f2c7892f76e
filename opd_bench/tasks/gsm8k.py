r"""gsm8k: word problems of grade school, with a number as the answer.

    Ann has 3 boxes of 12 eggs and eats 6. How many eggs are left?
    She has 3*12 = 36 eggs. So 36-6 = 30 are left.\n#### 30  →  correct
    So there are \boxed{30} eggs left.                      →  correct
    So there are 30 eggs left.                              →  wrong, not formatted

The answer is the number after the last "####", or what is in a box that comes later.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.answers import boxed
from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed
from opd_bench.tasks.dataset import Place, Row, text

NUMBER = re.compile(r"####\s*\\?\$?\s*(-?(?:\d[\d,]*(?:\.\d+)?|\.\d+))")
CALCULATION = re.compile(r"<<[^<>]*>>")


@dataclass(kw_only=True, eq=False)
class GSM8K(Boxed):
    """Cobbe et al. (2021): 7,473 problems to train on and 1,319 to test."""

    name = "gsm8k"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {
        "train": Place("gsm8k/train.jsonl", "train", "main"),
        "test": Place("gsm8k/test.jsonl", "test", "main"),
    }

    def read(self, row: Row) -> Problem:
        """The solution without what was meant for a calculator."""
        solution = CALCULATION.sub("", text(row, "answer"))
        answer = self.read_off(solution)
        if not answer:
            raise ValueError("its field 'answer' has no number after ####")
        return Problem(text(row, "question"), answer, solution)

    def read_off(self, response: str) -> str:
        """The number after the last ####, or a box after that."""
        numbers = list(NUMBER.finditer(response))
        later = response[numbers[-1].end() :] if numbers else response
        return boxed(later) or (numbers[-1][1].replace(",", "") if numbers else "")
