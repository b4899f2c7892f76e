"""What a source is: who writes the tokens that an estimator learns from."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from opd_bench.rollouts.choices import Choice
from opd_bench.rollouts.draws import Draws
from opd_bench.tokens import Origin, PromptBatch, Rollout, Written


class Policies(Protocol):
    """What a source may ask of the outside."""

    limit: int
    """The most tokens of a response."""

    def write(self, ids: Tensor, mask: Tensor, choice: Choice, uniform: Tensor) -> Written:
        """Continue left-padded `ids` until an end token or for as many tokens as there are uniforms."""

    def answers(self, prompts: PromptBatch, writer: Origin) -> Written:
        """Responses that exist already: reference answers (DATA), or the teacher's, sampled once and kept."""


@runtime_checkable
class Source(Protocol):
    """Prompts in, rollouts out; nothing about losses.

    A rollout keeps the origin of every token, its log-probability under whatever sampled it, and whether the length
    limit cut it off. Token ids are never decoded and encoded again. Extra samples are rows beyond the prompts given:
    the number of one is its prompt's and a multiple of the global batch's size.
    """

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Who may write response tokens, the main writer first."""

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """One batch of rollouts. All randomness comes from `draws`."""


def rollout(ids: Tensor, mask: Tensor, written: Written, rows: Sequence[int]) -> Rollout:
    """Left-padded prompts with responses behind them; `rows` are their numbers in the global batch."""
    response = torch.cat([torch.zeros_like(mask), written.mask], -1)
    blank = torch.zeros_like(ids)
    return Rollout(
        ids=torch.cat([ids, written.token], -1) * (response | _padded(mask, response)),
        mask=_padded(mask, response) | response,
        response=response,
        origin=torch.cat([blank, written.origin], -1),
        behaviour_logp=torch.cat([blank.to(written.logp.dtype), written.logp], -1),
        truncated=written.truncated,
        row=torch.tensor(rows, dtype=torch.long, device=ids.device),
    )


def _padded(mask: Tensor, like: Tensor) -> Tensor:
    return torch.cat([mask, torch.zeros_like(like[:, mask.shape[1] :])], -1)
