"""What a task is: numbered problems in splits that share none, and a verdict on a response."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from opd_bench.settings import Settings

Split = Literal["train", "validation", "test"]


class Problem(NamedTuple):
    """A question, its final answer and a reference solution."""

    prompt: str
    answer: str
    solution: str

    @property
    def id(self) -> str:
        """The same question has the same id everywhere."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


class Verdict(NamedTuple):
    """What became of one response."""

    correct: bool
    formatted: bool  # an answer could be read off
    answer: str  # as read, empty if none
    timed_out: bool = False  # there was none in time
    scores: Mapping[str, float] = {}  # more figures, by name: their means stand beside the accuracy
    reason: str = ""  # why a response is wrong, where that is not plain

    def kept(self) -> dict[str, Any]:
        """What is kept of it beside a response."""
        more = {"timed_out": self.timed_out, "scores": dict(self.scores), "reason": self.reason}
        own = {name: value for name, value in more.items() if value}
        return {"correct": self.correct, "formatted": self.formatted, **own}


class Task(Settings, ABC):
    """Problems by number and what counts as solved."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Of problems and verdicts: results of different versions are never compared."""

    def size(self, split: Split) -> int | None:
        """How many problems there are; None: no end of them."""
        return None

    def questions(self, split: Split, seed: int, count: int) -> list[str]:
        """What the first prompts ask, without words that all prompts have."""
        return [self.problem(split, seed, index).prompt for index in range(count)]

    def ready(self) -> None:
        """Raise a ValueError if there can be no verdicts here."""

    @abstractmethod
    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Problem `index` of a seeded sequence. Splits share no problem, whatever the seeds."""

    @abstractmethod
    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """On the text of a response; `finished` says that it ended by itself and was not cut off.

        It looks at the prompt and the answer alone, which are kept with every response, and never at the solution.
        """
