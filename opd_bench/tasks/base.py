"""What a task is: numbered problems in splits that share none, and a verdict on a response."""

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

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

    def kept(self) -> dict[str, bool]:
        """What is kept of it beside a response."""
        late = {"timed_out": True} if self.timed_out else {}
        return {"correct": self.correct, "formatted": self.formatted, **late}


class Task(Settings, ABC):
    """Problems by number and what counts as solved."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Of problems and verdicts: results of different versions are never compared."""

    @abstractmethod
    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Problem `index` of a seeded sequence. Splits share no problem, whatever the seeds."""

    @abstractmethod
    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """On the text of a response; `finished` says that it ended by itself and was not cut off.

        It looks at the prompt and the answer alone, which are kept with every response, and never at the solution.
        """
