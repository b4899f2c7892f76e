"""gpqa_diamond: 198 questions of biology, chemistry and physics that experts answer and a search does not.

    Which of these is aromatic ?           {"answer": "C"}          C, correct
    A. cyclohexane
    B. cyclooctatetraene
    C. benzene
    D. cyclobutadiene

The data have the right answer first, so the options are shuffled, the same way for every run. There are no training
problems. The Hub asks for its terms to be accepted, one of which is not to publish the questions.
"""

from types import MappingProxyType

from opd_bench.tasks.base import Problem
from opd_bench.tasks.choice import Choice
from opd_bench.tasks.dataset import Place, Row, text

OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class GPQADiamond(Choice):
    """The Hub calls its only split train; here it is for testing."""

    name = "gpqa_diamond"
    version = "1"
    places = MappingProxyType({"test": Place("gpqa/gpqa_diamond.csv", "train", "gpqa_diamond", gated=True)})

    def read(self, row: Row) -> Problem:
        """A question and its four options."""
        return self.shuffled(text(row, "Question"), [text(row, field) for field in OPTIONS])
