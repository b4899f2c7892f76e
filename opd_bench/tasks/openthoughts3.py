r"""openthoughts3: questions of mathematics, programming and science with long worked answers of a reasoning model.

    Find all real $x$ with $|x - 2| = 3$.
    <think> … </think> The solutions are $\boxed{-1, 5}$.  →  correct
    The solutions are $\boxed{5, -1}$.                     →  correct
    The only solution is $\boxed{5}$.                      →  wrong

The answer is what is in the last box of the worked one. What has none is left out of mathematics; of the other fields
it is kept to learn from, and no response to it is ever correct.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from opd_bench.tasks.answers import boxed
from opd_bench.tasks.base import Problem
from opd_bench.tasks.boxed import Boxed
from opd_bench.tasks.dataset import Place, Row, text


@dataclass(kw_only=True, eq=False)
class OpenThoughts3(Boxed):
    """OpenThoughts3-1.2M of Guha et al. (2025): 1,200,000 rows, many on the same question."""

    domain: Literal["math", "code", "science", "all"]

    name = "openthoughts3"
    version = "1"
    places: ClassVar[Mapping[str, Place]] = {"train": Place("openthoughts3/train.jsonl", "train")}

    def read(self, row: Row) -> Problem | None:
        """What the human said and what was answered."""
        domain = text(row, "domain")
        if self.domain not in ("all", domain):
            return None
        said = {text(turn, "from"): text(turn, "value") for turn in row["conversations"]}
        solution = text(said, "gpt")
        answer = boxed(solution)
        return Problem(text(said, "human"), answer, solution) if answer or domain != "math" else None
