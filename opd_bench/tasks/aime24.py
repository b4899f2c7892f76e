r"""aime24: the 30 problems of AIME I and II of 2024; answers are whole numbers from 0 to 999.

Find the remainder of $7^{2024}$ divided by 100.
It is $\boxed{1}$.    →  correct
It is $\boxed{001}$.  →  correct
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.boxed import Boxed
from opd_bench.tasks.dataset import Place


@dataclass(kw_only=True, eq=False)
class AIME24(Boxed):
    """American Invitational Mathematics Examination, 2024."""

    name = "aime24"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"test": Place("aime24/test.jsonl", "train")}
