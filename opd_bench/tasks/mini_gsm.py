"""mini_gsm: word problems in a small grammar, solved in written steps, with one number as the answer.

    Wes has 14 figs . Wes finds 8 figs . Wes doubles the figs . How many figs does Wes have ?
    Wes starts with 14 . So 14 + 8 = 22 . Next 22 * 2 = 44 . #### 44

Every whole number is one word. The connector that opens a step is a free choice among six, so even a perfect teacher
has entropy. "gives" and "gets … from" are kept apart by more than word order, which small models do not learn to read.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, NamedTuple

from opd_bench.settings import Bound, Count, Share
from opd_bench.tasks.base import Problem, Split, Task, Verdict

NAMES = (
    "Ann Bob Cara Dan Eve Finn Gina Hugo Iris Jack Kate Leo Mia Ned Olga Paul Quinn Rosa Sam Tina "
    "Uma Vic Wes Yara Zoe Amir Bela Chen Dora Emil Fay Gus Hana Ivan Jun Kira Lars Mona Nils Omar"
).split()
THINGS = (
    "apples pears plums figs limes nuts eggs cakes pies buns cards coins stamps books pens cups hats "
    "socks shirts rings balls kites dolls toys boats cars bikes drums flutes bells lamps maps keys boxes "
    "bags jars plates spoons forks bowls stones shells leaves seeds roses tulips birds fish cats dogs"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CONNECTORS = "So Then Now Next Therefore Thus".split()
PHRASES = {
    "+": (
        "{name} buys {n} more .",
        "{name} finds {n} {things} .",
        "{name} takes {n} {things} home .",
        "{name} gets {n} from {friend} .",
    ),
    "-": (
        "{name} eats {n} .",
        "{name} loses {n} {things} .",
        "{name} gives {friend} {n} {things} .",
        "{name} sells {n} at the shop .",
    ),
    "*2": ("{name} doubles the {things} .",),
    "*3": ("{name} triples the {things} .",),
    "/2": ("{name} halves the {things} .",),
}
DISTRACTORS = ("{friend} has {n} {others} .", "It is {day} .", "{name} also has {n} {others} .")
ANSWER = re.compile(r"#### (\d+)")
SHARES: dict[Split, range] = {"train": range(80), "validation": range(80, 90), "test": range(90, 100)}


class Step(NamedTuple):
    """One operation and what is written as its result."""

    before: int
    operation: str
    operand: int
    result: int


Slip = Callable[[random.Random, Step], int]
"""What a careless writer puts down as the result of a step."""


@dataclass(kw_only=True, eq=False)
class MiniGSM(Task):
    """Chains of `steps_min` to `steps_max` operations on numbers from 0 to `largest`."""

    largest: Annotated[int, Bound(12, 199)]
    operand: Annotated[int, Bound(2, 99)]  # of + and −, at most
    steps_min: Count
    steps_max: Count
    distraction: Share  # expected number of sentences that don't matter

    name = "mini_gsm"
    version = "1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_min > self.steps_max:
            raise ValueError(f"MiniGSM.steps_min must be ≤ steps_max, got {self.steps_min} > {self.steps_max}")

    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Drawn anew until the chain of numbers is one of the split's: no chain is in two splits."""
        return _drawn(self, split, seed, index)

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """Correct if the response ends, by itself, in "#### " and the answer."""
        head, mark, _ = response.partition("####")
        match = ANSWER.fullmatch(response[len(head) :].strip()) if mark and finished else None
        answer = match.group(1) if match else ""
        return Verdict(correct=answer == problem.answer, formatted=match is not None, answer=answer)

    def chain(self, rng: random.Random, slip: Slip | None = None) -> list[Step]:
        """Operations from a random start; with `slip` the writer goes on from the mistaken results."""
        value, steps = rng.randint(2, self.largest * 3 // 4), []
        for _ in range(rng.randint(self.steps_min, self.steps_max)):
            step = self.step(rng, value)
            value = slip(rng, step) if slip else step.result
            steps.append(step._replace(result=value))
        return steps

    def step(self, rng: random.Random, value: int) -> Step:
        """A legal operation: 10 % doubling, 5 % trebling, 7 % halving where they fit, else + or −."""
        while True:
            kind = rng.random()
            if kind < 0.15:
                factor = 2 if kind < 0.1 else 3
                if value * factor <= self.largest:
                    return Step(value, "*", factor, value * factor)
            elif kind < 0.22 and value > 1 and value % 2 == 0:
                return Step(value, "/", 2, value // 2)
            operand = rng.randint(2, self.operand)
            if rng.random() < 0.5:
                if value + operand <= self.largest:
                    return Step(value, "+", operand, value + operand)
            elif value >= operand:
                return Step(value, "-", operand, value - operand)

    def told(self, rng: random.Random, steps: list[Step]) -> Problem:
        """A chain as a story and its written solution."""
        name, friend = rng.sample(NAMES, 2)
        things, others = rng.sample(THINGS, 2)
        words = {"name": name, "friend": friend, "things": things, "others": others}
        story = [f"{name} has {steps[0].before} {things} ."]
        solution = [f"{name} starts with {steps[0].before} ."]
        for step in steps:
            if rng.random() < self.distraction / len(steps):
                aside = rng.choice(DISTRACTORS)
                story.append(aside.format(**words, n=rng.randint(2, self.largest), day=rng.choice(DAYS)))
            key = step.operation if step.operation in "+-" else f"{step.operation}{step.operand}"
            story.append(rng.choice(PHRASES[key]).format(**words, n=step.operand))
            solution.append(f"{rng.choice(CONNECTORS)} {written(step)}")
        story.append(f"How many {things} does {name} have ?")
        answer = str(steps[-1].result)
        return Problem(" ".join(story), answer, " ".join([*solution, f"#### {answer}"]))

    @cached_property
    def words(self) -> list[str]:
        """Every word that can occur other than a number, in a fixed order."""
        phrases = [phrase for group in PHRASES.values() for phrase in group]
        fixed = " ".join([*phrases, *DISTRACTORS, "has starts with . How many does have ? #### + - * / ="]).split()
        grammar = [word for word in dict.fromkeys(fixed) if not word.startswith("{")]
        return [*grammar, *NAMES, *THINGS, *DAYS, *CONNECTORS]


@lru_cache(maxsize=8192)  # a problem is asked for at every answer to it
def _drawn(task: MiniGSM, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"mini_gsm {split} {seed} {index}")
    while True:
        chain = task.chain(rng)
        if split_of(chain) == split:
            return task.told(rng, chain)


def split_of(steps: list[Step]) -> Split:
    """By the numbers and operations alone, not by the words: a chain belongs to one split whoever tells it."""
    text = " ".join(written(step) for step in steps)
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    return next(split for split, shares in SHARES.items() if share in shares)


def written(step: Step) -> str:
    """A step as the solution has it."""
    return f"{step.before} {step.operation} {step.operand} = {step.result} ."
