"""sciknoweval: multiple choice in chemistry, biology, physics or materials.

    What is the charge of a sodium ion ?   {"answer": "A"}          A, correct
    A. +1
    B. -1

The Hub has one split. A hash of the question puts each into one of three here: about 75 % are for training, 5 % for
validation and 20 % for testing. These are vOPD's proportions, but not its splits. Options keep the order of the data.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from types import MappingProxyType
from typing import Literal

from opd_bench.tasks.base import Problem, Split
from opd_bench.tasks.choice import Choice
from opd_bench.tasks.dataset import Place, Row, text

SHARES: dict[Split, range] = {"train": range(75), "validation": range(75, 80), "test": range(80, 100)}


@dataclass(kw_only=True, eq=False)
class SciKnowEval(Choice):
    """Of one domain, and of one level if any is named."""

    domain: Literal["Biology", "Chemistry", "Material", "Physics"]
    level: Literal["L1", "L2", "L3", "L4", "L5"] | None  # null: all; L3 is scientific reasoning

    name = "sciknoweval"
    version = "1"
    places = MappingProxyType({"train": Place("sciknoweval/test.jsonl", "test")})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out:
            raise ValueError(f"SciKnowEval.held_out must be 0, for a hash makes its splits, got {self.held_out}")

    def read(self, row: Row) -> Problem | None:
        """Other kinds of questions are left out, and those whose options and labels don't fit: a few are such."""
        if not str(row["type"]).startswith("mcq") or row["domain"] != self.domain:
            return None
        if self.level and row["details"]["level"] != self.level:
            return None
        options, labels = row["choices"]["text"], row["choices"]["label"]
        answer = text(row, "answerKey").upper()
        if len(options) != len(labels) or len(labels) > len(ascii_uppercase) or labels.count(answer) != 1:
            return None
        return self.lettered(text(row, "question"), [str(option).strip() for option in options], labels.index(answer))

    def problems(self, split: Split) -> list[Problem]:
        """Those of a split."""
        if not self._parts[split]:
            raise ValueError(f"{self.name} has no {split} problems among {len(self._read('train')):,}")
        return self._parts[split]

    @cached_property
    def _parts(self) -> dict[Split, list[Problem]]:
        found = self._read("train")
        return {split: [problem for problem in found if split_of(problem) == split] for split in SHARES}


def split_of(problem: Problem) -> Split:
    """By the question without its options: the same one is in one split, whatever it is to be told from."""
    question, _, _ = problem.prompt.rpartition("\n\nA. ")
    share = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") % 100
    return next(split for split, shares in SHARES.items() if share in shares)
