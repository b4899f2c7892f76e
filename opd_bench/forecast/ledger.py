"""What a source asks of the two models, seen by asking it for rollouts that nobody writes."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.rollouts.choices import Choice
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Source
from opd_bench.tokens import Origin, PromptBatch, Written
from opd_bench.training.plan import Plan

LOOKS = 16
"""Steps that are looked at, spread over the run: schedules and coins change what is asked."""


class Writing(NamedTuple):
    """Some rows, continued together."""

    readers: tuple[Origin, ...]  # the models that read along
    rows: int
    prompt: int  # tokens that are there already
    tokens: int  # that are written at most

    @property
    def length(self) -> int:
        """The most tokens of a row."""
        return self.prompt + self.tokens


class Asked(NamedTuple):
    """Of one process in one step."""

    rows: int  # of a rollout, extra ones too, at most
    writings: tuple[tuple[Writing, ...], ...]  # of every step that was looked at

    def tokens(self, who: Origin) -> float:
        """Tokens that a model writes or reads along, on average over steps, if every response is as long as can be."""
        return self.mean(lambda writing: writing.rows * writing.tokens * (who in writing.readers))

    def prompts(self, who: Origin) -> float:
        """Tokens that it reads before it writes."""
        return self.mean(lambda writing: writing.rows * writing.prompt * (who in writing.readers))

    def mean(self, value: Callable[[Writing], float]) -> float:
        """Over steps, of what is added up over a step's writings."""
        every = Counter(writing for step in self.writings for writing in step)
        return sum(value(writing) * count for writing, count in every.items()) / len(self.writings)

    @property
    def largest(self) -> frozenset[Writing]:
        """Every kind of writing that there is."""
        return frozenset(writing for step in self.writings for writing in step)


def asked(source: Source, plan: Plan, rows: int, prompt: int, seed: int) -> Asked:
    """A teacher's answer is counted every time, although it is kept: prompts come round late if at all."""
    steps = sorted({step * plan.steps // LOOKS for step in range(LOOKS)})
    found, largest = [], 0
    for step in steps:
        ledger = _Ledger(plan.response_limit)
        blank = torch.zeros(rows, prompt, dtype=torch.long)
        batch = PromptBatch(blank, torch.ones_like(blank, dtype=torch.bool), blank[:, 0], blank[:, :1], blank[:, 0] + 1)
        made = source.draw(ledger, batch, step / plan.steps, Draws(seed, step, 0, rows))
        found.append(tuple(ledger.writings))
        largest = max(largest, len(made.ids))
    return Asked(largest, tuple(found))


class _Ledger:
    """Policies that write nothing down but who would have written how much."""

    def __init__(self, limit: int):
        self.limit = limit
        self.writings: list[Writing] = []

    def write(self, ids: Tensor, mask: Tensor, choice: Choice, uniform: Tensor) -> Written:
        """As long as can be."""
        self.writings.append(Writing(choice.readers, len(ids), ids.shape[1], uniform.shape[1]))
        return _blank(len(ids), uniform.shape[1], choice.readers[0])

    def answers(self, prompts: PromptBatch, writer: Origin) -> Written:
        """As long as can be; a reference is there already."""
        rows, width = prompts.ids.shape
        if writer != Origin.DATA:
            self.writings.append(Writing((writer,), rows, width, self.limit))
        return _blank(rows, self.limit, writer)


def _blank(rows: int, tokens: int, writer: Origin) -> Written:
    token = torch.zeros(rows, tokens, dtype=torch.long)
    length, truncated = torch.full((rows,), tokens), torch.ones(rows, dtype=torch.bool)
    return Written(token, torch.full_like(token, writer), torch.zeros(rows, tokens), length, truncated)
