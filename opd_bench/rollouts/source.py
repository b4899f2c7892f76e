"""What a source is: who writes the tokens that an estimator learns from."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from opd_bench.tokens import Origin, PromptBatch, Rollout


class Policies(Protocol):
    """What a source may ask of the outside. Uniforms come in: the same seed and step, the same numbers for all."""

    def generate(self, prompts: PromptBatch, writer: Origin, uniform: Tensor) -> Rollout:
        """Continue every prompt until its end token or the length limit, one uniform [B, T] a token."""

    def answers(self, prompts: PromptBatch, writer: Origin) -> Rollout:
        """Responses that exist already: reference answers (DATA) or the teacher's, generated once and cached."""


@runtime_checkable
class Source(Protocol):
    """Prompts in, rollouts out; nothing about losses.

    A rollout keeps the origin of every token, its log-probability under whatever sampled it, and whether the length
    limit cut it off. Token ids are never decoded and encoded again. Extra samples are rows beyond the prompts given.
    """

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Who may write response tokens, the main writer first."""

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, generator: torch.Generator) -> Rollout:
        """One batch of rollouts. All randomness comes from `generator`."""
