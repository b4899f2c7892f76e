"""Student and teacher as writers, and answers that are made once and kept."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opd_bench.models.network import Network
from opd_bench.rollouts.choices import NUMBERS, Alone, Bent, Choice, Sampling
from opd_bench.rollouts.draws import uniform_of
from opd_bench.rollouts.engine import write
from opd_bench.tokens import Origin, PromptBatch, Written


@dataclass(eq=False)
class Writers:
    """The two models of a run, how long a response may be and what ends it."""

    networks: Mapping[Origin, Network]
    limit: int
    end: Sequence[int]
    seed: int
    sampling: Mapping[Origin, Sampling] = field(default_factory=dict)  # of whom it is not the law as it is
    _kept: dict[bytes, Written] = field(default_factory=dict)

    def device(self, writer: Origin) -> torch.device:
        """Where that model is."""
        return self.networks[writer].device

    def write(self, ids: Tensor, mask: Tensor, choice: Choice, uniform: Tensor) -> Written:
        """Continue left-padded `ids` until an end token or for as many tokens as there are uniforms."""
        with ExitStack() as stack:
            for reader in choice.readers:
                stack.enter_context(self.networks[reader].present())
            bent = Bent(choice, self.sampling) if self.sampling else choice
            return write(self.networks, ids, mask, bent, uniform, self.end)

    def answers(self, prompts: PromptBatch, writer: Origin) -> Written:
        """Reference answers, or the teacher's, which depend on the prompt and the seed and not on the step."""
        if writer == Origin.DATA:
            return self._references(prompts)
        keys = [ids[mask].cpu().numpy().tobytes() for ids, mask in zip(prompts.ids, prompts.mask, strict=True)]
        new = [number for number, key in enumerate(keys) if key not in self._kept]
        if new:
            names = [f"{self.seed} answer {hashlib.sha256(keys[number]).hexdigest()}" for number in new]
            uniform = torch.stack([uniform_of(name, self.limit, NUMBERS) for name in names])
            made = self.write(prompts.ids[new], prompts.mask[new], Alone(writer), uniform)
            for row, number in enumerate(new):
                length = int(made.length[row])
                alone = [value[row].cpu() for value in made]
                self._kept[keys[number]] = Written(*(value[:length] if value.dim() else value for value in alone))
        return _batch([self._kept[key] for key in keys], prompts.ids.device)

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


def _batch(rows: list[Written], device: torch.device) -> Written:
    """Single responses as one right-padded batch."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    padded = (pad_sequence(column, batch_first=True) if column[0].dim() else torch.stack(column) for column in columns)
    return Written(*(column.to(device) for column in padded))
