r"""aime24_25: the 60 problems of AIME of 2024 and of 2025 in one task, for papers that give one figure for both.

How many positive divisors does 2025 have?
It has $\boxed{15}$.  →  correct
It has $\boxed{16}$.  →  wrong
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from opd_bench.tasks.aime24 import AIME24
from opd_bench.tasks.aime25 import AIME25
from opd_bench.tasks.dataset import Place, Row, rows


@dataclass(kw_only=True, eq=False)
class AIME2425(AIME24):
    """American Invitational Mathematics Examination, 2024 and 2025."""

    source_2025: str
    revision_2025: str | None

    name = "aime24_25"
    places: ClassVar[Mapping[str, Place]] = AIME24.places

    def rows_of(self, which: str) -> Iterator[Row]:
        """First those of 2024."""
        later = rows(self.source_2025, AIME25.places[which], self.revision_2025)
        return chain(super().rows_of(which), later)
