"""What an estimator is, and what it says of itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from lightning.pytorch import Callback
from torch import Tensor

from opd_bench.settings import Settings
from opd_bench.tokens import Cost, Origin, Signals, TokenBatch, TokenLoss

STUDENT_TOKENS = frozenset({Origin.STUDENT})
STUDENT_AND_TEACHER_TOKENS = frozenset({Origin.STUDENT, Origin.TEACHER})
WRITTEN_TOKENS = frozenset({Origin.TEACHER, Origin.DATA})
ANY_TOKENS = frozenset(Origin)


class About(NamedTuple):
    """Where a method comes from, for the leaderboard."""

    title: str
    paper: str
    provenance: str  # "author", or what it was re-implemented from
    deviations: tuple[str, ...] = ()  # from the paper, each a sentence
    warning: str = ""  # for what is known to be wrong


class Claims(NamedTuple):
    """What an estimator says of its expected gradient at a fixed prefix. The contract suite holds it to every word."""

    target: str | None  # the objective whose exact gradient the mean equals: a name in tests/oracles.py
    stationary: bool  # the mean gradient is 0 when student and teacher agree
    cost: Cost
    bias: str = ""  # without a target: what the mean gradient is instead


@dataclass(kw_only=True, eq=False)
class Estimator(Settings, Callback, ABC):
    """What to learn from each token: a loss per token, pure, with no trainer, no RNG and no device of its own.

    It is a Lightning callback so that a trainer can carry it, but nothing essential happens in a hook.
    """

    about: ClassVar[About]
    learns_from: ClassVar[frozenset[Origin]] = STUDENT_TOKENS
    """Tokens of other origins are treated like a prompt: read, not scored, not counted."""
    signals: ClassVar[tuple[str, ...]] = ()
    """TokenBatch properties that `weigh` reads of every token; empty if it is not overridden."""
    denominator: ClassVar[Literal["tokens", "weights"]] = "tokens"
    """Divide by the number of scored tokens in the global batch, or by the sum of their weights."""

    @property
    @abstractmethod
    def claims(self) -> Claims:
        """What is claimed of the expected gradient at these settings."""

    @abstractmethod
    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """One value per token, to be minimised. `progress` ∈ [0, 1] is the share of optimiser steps done."""

    def weigh(self, signals: Signals, progress: float) -> Tensor | None:
        """What needs to see the global batch first: a detached number per token, handed on as `tokens.weight`."""
        return None
