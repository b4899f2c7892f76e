"""Problems as batches of prompts, by number: a batch depends on the seed and the step, and on nothing before it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import IterableDataset

from opd_bench.models.network import right_aligned
from opd_bench.models.words import Words
from opd_bench.tasks.base import Problem, Split, Task
from opd_bench.tokens import PromptBatch, Rollout
from opd_bench.training.plan import Plan


class Problems(NamedTuple):
    """One split of a task under one seed, as ids."""

    task: Task
    words: Words
    split: Split
    seed: int

    def at(self, index: int) -> Problem:
        """Problem number `index`."""
        return self.task.problem(self.split, self.seed, index)

    def batch(self, numbers: list[int]) -> PromptBatch:
        """These problems, in this order."""
        problems = [self.at(number) for number in numbers]
        ids, mask = right_aligned([self.words.prompt(problem.prompt) for problem in problems])
        answers = [self.words.answer(problem.solution) for problem in problems]
        answer = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True)
        return PromptBatch(ids, mask, torch.tensor(numbers), answer, torch.tensor([len(row) for row in answers]))


def share_of(prompts: int, rank: int, processes: int) -> range:
    """Which of a step's prompts are one process's: an equal part, without gaps."""
    if prompts % processes:
        raise ValueError(f"plan.prompts must be a multiple of the number of processes, {processes}, got {prompts}")
    size = prompts // processes
    return range(rank * size, (rank + 1) * size)


class PromptStream(IterableDataset[PromptBatch]):
    """The batches of a run from whatever step it has come to: a resumed run goes on where it was."""

    def __init__(self, problems: Problems, plan: Plan, share: range, start: Callable[[], int]):
        self.problems, self.plan, self.share, self.start = problems, plan, share, start

    def __iter__(self) -> Iterator[PromptBatch]:
        for step in range(self.start(), self.plan.steps):
            first = step * self.plan.prompts
            yield self.problems.batch([first + n for n in self.share for _ in range(self.plan.rollouts)])


def pieces(rollout: Rollout, own: range, total: int, count: int) -> list[Rollout]:
    """Micro-batches of the process whose rows are `own` of `total`: `count` equal shares, extra ones by prompt.

    They are those that one process would make of all rows. Every process has as many, so that sharded models are called
    as often. One without rows has nothing to score: a row without a response, for models don't take none.
    """
    blank = Rollout(*(field[:1] for field in rollout))._replace(response=torch.zeros_like(rollout.response[:1]))
    place = (rollout.row % total - own.start) * count // len(own)
    chosen = [(place == number).nonzero()[:, 0] for number in range(count)]
    return [Rollout(*(field[rows] for field in rollout)) if len(rows) else blank for rows in chosen]
