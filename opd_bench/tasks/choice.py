r"""Questions with lettered options, one of which is right.

    Which gas do plants take in ?          The leaves take it in. {"answer": "B"}          B, correct
    A. oxygen
    B. carbon dioxide

One rule reads every task's answer: the last of these in a response counts, whether or not it came to its end.

- `\boxed{B}`, `\boxed{\text{B}}`
- `{"answer": "B"}`, in a code fence or not
- "Answer: B", "the answer is B", in bold or not

In all of them the letter may stand in brackets, and a full stop or a colon may follow with more text, as in "B. carbon
dioxide". In prose it must be a capital, or in brackets, and nothing may follow that could make it a word or one of
several: "the answer is a gas", "Answer: A gas", "Answer: A or B" and "the answer is D-glucose" have no letter.
"""

import random
import re
from collections.abc import Sequence
from string import ascii_uppercase

from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.dataset import Dataset

LETTER = re.compile(
    r"""
    \\boxed\{ [\s({]{0,4} (?:\\(?:text|math)[a-z]{0,3}\{)? [\s(]{0,4} (?P<boxed>[A-Za-z]) (?=[\s)]{0,4}[}.:])
    | ["']answer["'] \s{0,9} : \s{0,9} ["'] [\s(]{0,4} (?P<json>[A-Za-z]) (?=[\s)]{0,4}["'.:])
    | \b(?i:answer) (?: [*\s]{0,4} : | \s{1,4} is\b :? ) [*\s$(\[]{0,6}
      (?P<prose>[A-Z] | (?<=[(\[])[a-z])
      (?! [)\]*$\s]{0,4} (?: ,?\s{0,4}(?:and|or)\b | [,&/|]\s{0,4}[(\[]?[A-Z]\b ) )
      (?= [^\w\s,'’/|+=&–-] | ,\s{1,4}[a-z] | \s{1,4}(?:because|since|as)\b | [^\S\n]{0,4}(?:\n|\Z) )
    """,
    re.VERBOSE,
)


class Choice(Dataset):
    """Options stand below a question, one a line; the reference solution is the letter as JSON."""

    def lettered(self, question: str, options: Sequence[str], right: int) -> Problem:
        """A question with its options in this order, number `right` being the answer."""
        lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
        answer = ascii_uppercase[right]
        return Problem("\n".join([question, "", *lines]), answer, f'{{"answer": "{answer}"}}')

    def shuffled(self, question: str, options: Sequence[str]) -> Problem:
        """The first option is the right one; their order depends on the question and on nothing else."""
        order = random.Random(f"{self.name} {question}").sample(range(len(options)), len(options))
        return self.lettered(question, [options[place] for place in order], order.index(0))

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """Correct if the response's letter is the answer; one that no option has is none."""
        letter = letter_of(response)
        if letter and f"\n{letter}. " not in problem.prompt:
            return Verdict(correct=False, formatted=False, answer="", reason=f"there is no option {letter}")
        return Verdict(correct=letter == problem.answer, formatted=letter != "", answer=letter)


def letter_of(response: str) -> str:
    """The last letter that is given as the answer, a capital; empty if there is none."""
    letters = [match[match.lastgroup or 0] for match in LETTER.finditer(response)]
    return letters[-1].upper() if letters else ""
