"""Student and teacher as writers, and answers that are made once and kept."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opd_bench.models.network import Network
from opd_bench.rollouts.answers import Answers, key_of
from opd_bench.rollouts.choices import NUMBERS, Alone, Bent, Choice, Sampling
from opd_bench.rollouts.draws import uniform_of
from opd_bench.rollouts.engine import Engine, Own
from opd_bench.tokens import Origin, PromptBatch, Written


@dataclass(eq=False)
class Writers:
    """The two models of a run, how long a response may be and what ends it."""

    networks: Mapping[Origin, Network]
    limit: int
    end: Sequence[int]
    seed: int
    sampling: Mapping[Origin, Sampling] = field(default_factory=dict)  # of whom it is not the law as it is
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext  # in which models compute while they write
    kept: Answers = field(default_factory=Answers)  # the teacher's
    engine: Engine = field(default_factory=partial(Own, look_every=8))

    def device(self, writer: Origin) -> torch.device:
        """Where that model is."""
        return self.networks[writer].device

    def write(self, ids: Tensor, mask: Tensor, choice: Choice, uniform: Tensor) -> Written:
        """Continue left-padded `ids` until an end token or for as many tokens as there are uniforms."""
        with ExitStack() as stack, self.precision():
            for reader in choice.readers:
                stack.enter_context(self.networks[reader].present())
            bent = Bent(choice, self.sampling) if self.sampling else choice
            return self.engine.write(self.networks, ids, mask, bent, uniform, self.end)

    def answers(self, prompts: PromptBatch, writer: Origin) -> Written:
        """Reference answers, or the teacher's, which depend on the prompt and the seed and not on the step."""
        if writer == Origin.DATA:
            return self._references(prompts)
        keys = [key_of(ids[mask]) for ids, mask in zip(prompts.ids, prompts.mask, strict=True)]
        if new := self.kept.missing(keys):
            uniform = torch.stack([uniform_of(f"{self.seed} answer {keys[n]}", self.limit, NUMBERS) for n in new])
            made = self.write(prompts.ids[new], prompts.mask[new], Alone(writer), uniform)
            self.kept.add([keys[number] for number in new], made)
        return self.kept.batch(keys, prompts.ids.device)

    def _references(self, prompts: PromptBatch) -> Written:
        """Cut at the limit; a reference has no sampler, so its log-probability is 0."""
        token = prompts.answer[:, : self.limit]
        return Written(
            token=token,
            origin=torch.full_like(token, Origin.DATA),
            logp=torch.zeros_like(token, dtype=torch.float32),
            length=prompts.answer_length.clamp_max(self.limit),
            truncated=prompts.answer_length > self.limit,
        )
