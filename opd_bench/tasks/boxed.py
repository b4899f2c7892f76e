"""Mathematical tasks: the verdict is on the last box of a response, by the rules in `answers.py`."""

from dataclasses import dataclass
from typing import ClassVar

from opd_bench.tasks.answers import boxed, same
from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.dataset import Dataset, Row, text


@dataclass(kw_only=True, eq=False)
class Boxed(Dataset):
    r"""Problems whose answer is asked for in \boxed{}."""

    tolerance: ClassVar[float] = 0.0
    """Relative, of numbers."""

    def read(self, row: Row) -> Problem | None:
        """Question, answer and, where there is one, the worked solution."""
        solution = text(row, "solution") if row.get("solution") else ""
        return worked(text(row, "problem", "question"), text(row, "answer"), solution)

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """Correct if the answer that is read off is the problem's; a box counts in what was cut off after it, too."""
        answer = self.read_off(response)
        correct, reason = same(answer, problem.answer, self.tolerance) if answer else (False, "")
        return Verdict(correct=correct, formatted=answer != "", answer=answer, reason=reason)

    def read_off(self, response: str) -> str:
        """The final answer of a response, empty if it has none."""
        return boxed(response)


def worked(question: str, answer: str, solution: str = "") -> Problem:
    """A problem whose solution ends in a box, be it the answer alone."""
    if not boxed(solution):
        solution = f"{solution}\n\n\\boxed{{{answer}}}".lstrip()
    return Problem(question, answer, solution)
