"""Code tasks: a response is a program, and right if the problem's checks come to their end when they run after it."""

import json
import re
from dataclasses import dataclass
from textwrap import dedent
from typing import Annotated, NamedTuple

from opd_bench.settings import Bound, Positive
from opd_bench.tasks import sandbox
from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.dataset import Dataset

BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
UNINDENTED = re.compile(r"^[^\s)\]}]", re.MULTILINE)
"""What is no part of a function's body: the next function, a call, a comment, prose."""
LINE = r"(?:from \S+ import |import \w|(?:async )?def \w|class \w|@\w|[A-Za-z_]\w* *=)"
BEGINS = re.compile(f"^{LINE}", re.MULTILINE)
"""A line with which a bare program may begin."""
GOES_ON = re.compile(rf"^(?:class |def main\b|(?!{LINE})[^\s)\]}}#])", re.MULTILINE)
"""What models write after it: classes, a main part, calls, prose."""


class Checks(NamedTuple):
    """All that judging a program takes. As text it is the answer of a problem."""

    entry: str  # the name that is checked
    code: str  # what is run after the program
    header: str = ""  # how the program begins, where the prompt has that

    def __str__(self) -> str:
        return json.dumps(self._asdict(), ensure_ascii=False)


@dataclass(kw_only=True, eq=False)
class CodeTask(Dataset):
    """Problems whose answers are `Checks`."""

    execute: bool  # run generated code in a sandbox: nothing else can judge it
    seconds: Positive  # for a program and its checks
    memory_mib: Annotated[int, Bound(64)]  # for them and the interpreter

    def ready(self) -> None:
        """Somebody must have allowed it, and there must be a sandbox."""
        if not self.execute:
            raise ValueError(
                f"{self.name}.execute must be true: a verdict on generated code is had by running it, in a sandbox "
                "without network, processes and files of others; run_code=true allows that"
            )
        if lack := sandbox.lacking():
            raise ValueError(f"{self.name}: {lack}")

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """Correct if all checks pass. What was cut off is judged as it stands: what is lacking will be missed."""
        self.ready()
        checks = Checks(**json.loads(problem.answer))
        program = program_of(response, checks)
        if not program:
            return Verdict(correct=False, formatted=False, answer="", reason="no code")
        outcome = sandbox.run([*program, checks.code], self.seconds, self.memory_mib)
        return Verdict(correct=outcome.passed, formatted=True, answer=program[-1], reason=outcome.reason)


def program_of(response: str, checks: Checks) -> list[str]:
    """What a response is, in parts to be run one after the other; empty if it is no code.

    A program is the last fenced block that defines what is checked, or a bare text that does, and comes after whatever
    the prompt has before that: imports and helpers. Else it is the prompt's header and the body that continues it.
    """
    blocks = BLOCK.findall(response)
    for block in map(dedent, reversed(blocks)):
        if defines(block, checks.entry):
            return [_before(checks), block]
    if defines(response, checks.entry):
        return [_before(checks), _bare(response, checks.entry)]
    bodies = (body for text in (response, *blocks) if (body := _body(text)).strip())
    return [checks.header + body for body in bodies][:1] if checks.header else []


def defines(text: str, name: str) -> bool:
    """Whether there is a function, class or value of that name, not within another."""
    return _definition(text, name) is not None


def _definition(text: str, name: str) -> re.Match[str] | None:
    name = re.escape(name)
    return re.search(rf"^(?:(?:(?:async )?def|class) +{name}\b|{name} *=(?!=))", text, re.MULTILINE)


def _before(checks: Checks) -> str:
    """The header up to what is checked."""
    match = _definition(checks.header, checks.entry)
    return checks.header[: match.start()] if match else checks.header


def _bare(text: str, name: str) -> str:
    """From the first line of code to the first, after the definition, that is none."""
    begin, definition = BEGINS.search(text), _definition(text, name)
    assert begin
    assert definition
    end = GOES_ON.search(text, definition.end())
    return text[begin.start() : end.start() if end else None]


def _body(text: str) -> str:
    """As far as a function's body goes."""
    end = UNINDENTED.search(text)
    return text[: end.start()] if end else text
