"""What the embedded models learn from: solved problems, drills, and solutions with slips. Training split only."""

import random

import torch
from torch import Tensor

from opd_bench.models.vocabulary import word_tokenizer
from opd_bench.tasks.base import Problem
from opd_bench.tasks.mini_gsm import CONNECTORS, MiniGSM, Slip, Step, split_of, written

TASK = MiniGSM(largest=99, operand=12, steps_min=2, steps_max=4, distraction=0.3)
TOKENIZER = word_tokenizer(TASK.words, 512)
BATCH = 64

Batch = tuple[Tensor, Tensor]
"""Ids [B, T], padded on the right, and what each of them weighs as a target."""


def solved(rng: random.Random, prompt_weight: float) -> Batch:
    """Problems as they are."""
    return lesson([TASK.problem("train", rng.getrandbits(32), 0) for _ in range(BATCH)], prompt_weight)


def drill(rng: random.Random, steps: int) -> Batch:
    """Unrelated steps in a row: arithmetic is learnt far faster from these than from stories."""
    rows = []
    for _ in range(BATCH):
        drawn = [TASK.step(rng, rng.randint(0, TASK.largest)) for _ in range(steps)]
        rows.append("<bos> " + " ".join(f"{rng.choice(CONNECTORS)} {written(step)}" for step in drawn))
    ids = torch.tensor(TOKENIZER(rows, add_special_tokens=False)["input_ids"])
    return ids, torch.ones(ids.shape)


def sloppy(rng: random.Random, carry: float, near: float) -> Batch:
    """Problems with slips in their solutions; without the slips they would be of the training split."""
    problems, slip = list[Problem](), slips(carry, near)
    while len(problems) < BATCH:
        steps = TASK.chain(rng, slip)
        if split_of(corrected(steps)) == "train":
            problems.append(TASK.told(rng, steps))
    return lesson(problems, 0.0)


def lesson(problems: list[Problem], prompt_weight: float) -> Batch:
    """Prompts with their solutions, which <eos> ends; padding weighs nothing."""
    prompts = TOKENIZER([problem.prompt for problem in problems])["input_ids"]
    solutions = TOKENIZER([problem.solution for problem in problems], add_special_tokens=False)["input_ids"]
    rows = [[*prompt, *solution, TOKENIZER.eos_token_id] for prompt, solution in zip(prompts, solutions, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [TOKENIZER.pad_token_id] * (width - len(row)) for row in rows])
    place = torch.arange(width)
    start, end = (torch.tensor([[len(row)] for row in group]) for group in (prompts, rows))
    return ids, torch.where(place < start, prompt_weight, 1.0) * (place < end)


def slips(carry: float, near: float) -> Slip:
    """+ and − go wrong: by a forgotten ten where they cross into another ten, or else by one.

    `carry` and `near` are the probabilities. A slip that would leave the task's range isn't made.
    """

    def put_down(rng: random.Random, step: Step) -> int:
        if step.operation not in "+-":
            return step.result
        crosses = step.before // 10 != step.result // 10
        if crosses and rng.random() < carry:
            slipped = step.result + (10 if step.operation == "-" else -10)
        else:
            slipped = step.result + (rng.choice((-1, 1)) if rng.random() < near else 0)
        return slipped if 0 <= slipped <= TASK.largest else step.result

    return put_down


def corrected(steps: list[Step]) -> list[Step]:
    """The same operations without slips."""
    right, value = list[Step](), steps[0].before
    for step in steps:
        n = step.operand
        result = {"+": value + n, "-": value - n, "*": value * n, "/": value // n}[step.operation]
        right.append(Step(value, step.operation, n, result))
        value = result
    return right
