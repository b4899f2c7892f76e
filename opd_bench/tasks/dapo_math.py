r"""dapo_math: 14,000 to 17,000 competition problems whose answers are whole numbers.

Find the least $n > 1$ with $n^2 \equiv 1 \pmod{24}$.
… so $n = \boxed{5}$.  →  correct
Answer: 5              →  wrong, not formatted: here the answer is asked for in a box
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed, worked
from opd_bench.tasks.dataset import Place, Row, text

BEFORE = re.compile(r"\s*Solve the following math problem step by step\.[^\n]*\n+")
AFTER = re.compile(r"\n+Remember to put your answer on its own line[^\n]*\s*$")


@dataclass(kw_only=True, eq=False)
class DAPOMath(Boxed):
    """DAPO-Math-17K of Yu et al. (2025), whose published file has every row a hundred times, or its English 14,000."""

    name = "dapo_math"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"train": Place("dapo_math/train.jsonl", "train")}

    def read(self, row: Row) -> Problem:
        """Columns `problem` and `answer`, or `prompt`, a message with instructions around it, and `reward_model`."""
        if isinstance(row.get("prompt"), list):
            asked, answer = text(row["prompt"][0], "content"), text(row["reward_model"], "ground_truth")
        else:
            asked, answer = text(row, "problem", "question", "prompt"), text(row, "answer", "solution")
        return worked(AFTER.sub("", BEFORE.sub("", asked, count=1)).strip(), answer)
