"""Tokens, FLOPs and seconds, at most: every response is taken to be as long as it may be.

2 N a token that N parameters read or write, 2 N more where a gradient goes back, 2 for each that learns, and 2 N more
where layers run again. Attention's own products and the processes' exchanges are left out.
"""

from typing import NamedTuple

from opd_bench.forecast.cards import Card
from opd_bench.forecast.ledger import Writing
from opd_bench.forecast.memory import Bytes, per_logit, teacher_weights
from opd_bench.forecast.setup import Setup, Test
from opd_bench.tokens import Origin

COMPUTE, READING = 0.4, 0.6
"""Shares of a card's peaks that are assumed: of its FLOP/s in a step, of its bandwidth while a token is written."""
LAUNCH = 0.8e-3
"""Seconds a layer and token that plain transformers takes at least, whatever the card: Python and kernel launches."""
ANCHORS = {Origin.STUDENT: 2, Origin.TEACHER: 1}
"""How many times who answers the tests: the student before and after, the teacher once."""


class Work(NamedTuple):
    """Of a whole run, over all processes."""

    tokens: dict[str, float]
    flops: dict[str, float]

    @property
    def total(self) -> float:
        """FLOPs."""
        return sum(self.flops.values())


class Time(NamedTuple):
    """Seconds on one card a process."""

    step: float
    evaluation: float
    steps: int

    @property
    def hours(self) -> float:
        """Of the run."""
        return (self.step * self.steps + self.evaluation) / 3600


def work(setup: Setup) -> Work:
    """What is written, read and computed."""
    steps, processes = setup.plan.steps, setup.layout.processes
    written = {who: setup.asked.tokens(who) * steps * processes for who in ANCHORS}
    read = setup.rows * setup.length * steps * processes
    judged = {who: sum(test.problems * test.responses for test in judgings(setup, who)) for who in ANCHORS}
    size = {Origin.STUDENT: setup.student.active, Origin.TEACHER: setup.teacher.active}
    asking = sum(setup.asked.prompts(who) * size[who] for who in ANCHORS) * steps * processes
    return Work(
        tokens={
            "written by the student": written[Origin.STUDENT],
            "written by the teacher": written[Origin.TEACHER],
            "read by both": read,
            "judged": sum(judged.values()) * setup.judged,
        },
        flops={
            "rollouts": 2.0 * (sum(written[who] * size[who] for who in ANCHORS) + asking),
            "learning": float(read) * per_token(setup),
            "evaluation": 2.0 * sum(judged[who] * (setup.judged + setup.prompt.tokens) * size[who] for who in ANCHORS),
        },
    )


def per_token(setup: Setup) -> float:
    """FLOPs of learning from one."""
    student = setup.student
    learning = student.trained if student.active == student.parameters else min(student.trained, student.active)
    again = 2 * student.active * (setup.layout.gradient_checkpointing + (setup.signals and setup.pieces > 1))
    return float(4 * student.active + 2 * learning + again + 2 * setup.teacher.active)


def judgings(setup: Setup, who: Origin) -> list[Test]:
    """Everything that one of the two answers in a run."""
    every = setup.evaluation.every
    looks = setup.plan.steps // every if every and who == Origin.STUDENT else 0
    return [*setup.tests * ANCHORS[who], *[setup.validation] * looks]


def time(setup: Setup, card: Card, launch: float = 0.0) -> Time:
    """With so many seconds for a layer and token at least; without, the card's own floor."""
    size = Bytes.of(setup)
    learning = setup.rows * setup.length * per_token(setup) / _speed(card, size.compute)
    scored = setup.rows * setup.plan.response_limit * setup.student.vocabulary
    passes = 2 * scored * per_logit(setup) / _bandwidth(card)
    writing = setup.asked.mean(lambda writing: _seconds(setup, card, writing, launch))
    judging = [_judging(setup, card, who, test, launch) for who in ANCHORS for test in judgings(setup, who)]
    return Time(learning + passes + writing, sum(judging), setup.plan.steps)


def _judging(setup: Setup, card: Card, who: Origin, test: Test, launch: float) -> float:
    own = -(-test.problems // setup.layout.processes)
    rows = min(setup.evaluation.batch, own)
    one = _seconds(setup, card, Writing((who,), rows, setup.prompt.tokens, setup.judged), launch)
    return one * -(-own // rows) * test.responses


def _seconds(setup: Setup, card: Card, writing: Writing, launch: float) -> float:
    """Of some rows: weights and keys are read for every token, or its products take longer."""
    size = Bytes.of(setup)
    student = setup.student.parameters * size.weights
    known = {
        Origin.STUDENT: (setup.student, student, size.weights),
        Origin.TEACHER: (setup.teacher, teacher_weights(setup), size.teacher),
    }
    total = 0.0
    for model, weights, each in (known[reader] for reader in writing.readers):
        middle = writing.prompt + writing.tokens // 2
        reading = (weights + writing.rows * model.cached(middle) * each) / _bandwidth(card)
        one = 2.0 * model.active * writing.rows / _speed(card, each)
        total += writing.tokens * max(reading, one, launch * model.layers) + writing.prompt * one
    return total


def _speed(card: Card, size: int) -> float:
    return (card.half if size == 2 else card.single) * 1e12 * COMPUTE


def _bandwidth(card: Card) -> float:
    return card.bandwidth * 1e12 * READING
