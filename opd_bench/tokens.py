"""What the rooms hand each other.

Axes: B sequences, T positions, N response tokens of a flat chunk, V vocabulary, K support.
Notation: student p, teacher q, scored token y, r = log q(y) − log p(y). Arguments come as (student, teacher).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from opd_bench.maths import derivatives, divergences
from opd_bench.maths.supports import Support


class Origin(IntEnum):
    """Who wrote a token."""

    STUDENT = 0
    TEACHER = 1
    DATA = 2


Model = Literal["student", "teacher"]
Read = Literal["nothing", "sampled", "top-k", "full"]
READS: tuple[Read, ...] = ("nothing", "sampled", "top-k", "full")


class Cost(NamedTuple):
    """The most that an estimator reads of each model at a position: its cost class."""

    student: Read
    teacher: Read

    def __or__(self, other: "Cost") -> "Cost":
        return Cost(*(max(pair, key=READS.index) for pair in zip(self, other, strict=True)))


class PromptBatch(NamedTuple):
    """Left-padded prompts, and reference answers for those who learn from data."""

    ids: Tensor  # [B, P]
    mask: Tensor  # [B, P] True on prompt tokens
    number: Tensor  # [B] number of the problem in its split
    answer: Tensor  # [B, A] right-padded, with its end token
    answer_length: Tensor  # [B]


class Written(NamedTuple):
    """Responses, right-padded. An end token that was emitted belongs to its response, none is ever made up."""

    token: Tensor  # [B, T]
    origin: Tensor  # [B, T]
    logp: Tensor  # [B, T] log-probability of the token under whatever chose it
    length: Tensor  # [B]
    truncated: Tensor  # [B] the length limit, not an end token, ended it

    @property
    def mask(self) -> Tensor:  # [B, T]
        """True on response tokens."""
        return torch.arange(self.token.shape[-1], device=self.token.device) < self.length[:, None]


class Rollout(NamedTuple):
    """Prompts with their responses, right-padded, and who wrote what with which probability."""

    ids: Tensor  # [B, T]
    mask: Tensor  # [B, T] True on prompt and response tokens
    response: Tensor  # [B, T] True on response tokens: an emitted end token counts, padding does not
    origin: Tensor  # [B, T] Origin
    behaviour_logp: Tensor  # [B, T] log-probability of the token under the policy that sampled it
    truncated: Tensor  # [B] the length limit, not an end token, ended this response
    row: Tensor  # [B] number in the global batch, on which what is drawn depends; modulo the batch's size, the prompt's


@dataclass(kw_only=True, eq=False)
class TokenBatch:
    """N scored tokens, all that an estimator may look at.

    Nothing of size [N, V] beyond the two logit blocks exists until an estimator reads it, and what it reads is
    noted in `cost`. Half-precision logits are widened to float32 before any softmax; the teacher carries no
    gradient. Log-probabilities are floored at LOG_ZERO, so a vocabulary entry at −inf is finite everywhere.
    """

    student_logits: Tensor  # [N, V] carries the gradient
    teacher_logits: Tensor  # [N, V]
    token: Tensor  # [N]
    origin: Tensor  # [N]
    behaviour_logp: Tensor  # [N]
    uniform: Tensor  # [N] one U(0, 1) a token, drawn by the harness from the run's seed; read it through `coin`
    weight: Tensor | None = None  # [N] what the estimator's `weigh` returned
    cost: Cost = field(default=Cost("nothing", "nothing"), init=False)

    def __post_init__(self) -> None:
        self.student_logits = _widened(self.student_logits)
        self.teacher_logits = _widened(self.teacher_logits.detach())
        self._index: dict[tuple[int, Model], Tensor] = {}

    @cached_property
    def student_logsumexp(self) -> Tensor:  # [N]
        """log Σ exp of the student's logits, detached: derivatives.log_probs_at knows what it depends on."""
        return self.student_logits.detach().logsumexp(-1)

    @cached_property
    def teacher_logsumexp(self) -> Tensor:  # [N]
        """log Σ exp of the teacher's logits."""
        return self.teacher_logits.logsumexp(-1)

    @cached_property
    def student_logp(self) -> Tensor:  # [N]
        """log p(y), by gather and logsumexp."""
        self._note("sampled", "nothing")
        return self._student_at(self.token[:, None])[:, 0]

    @cached_property
    def teacher_logp(self) -> Tensor:  # [N]
        """log q(y), by gather and logsumexp."""
        self._note("nothing", "sampled")
        return self._teacher_at(self.token[:, None])[:, 0]

    @property
    def log_ratio(self) -> Tensor:  # [N]
        """r = log q(y) − log p(y), detached."""
        return (self.teacher_logp - self.student_logp).detach()

    @property
    def importance(self) -> Tensor:  # [N]
        """ρ = p(y) / (probability under the policy that sampled y), detached."""
        return divergences.ratio((self.student_logp - self.behaviour_logp).detach())

    @cached_property
    def student_log_probs(self) -> Tensor:  # [N, V]
        """log p over the vocabulary."""
        self._note("full", "nothing")
        return derivatives.log_probs(self.student_logits)

    @cached_property
    def teacher_log_probs(self) -> Tensor:  # [N, V]
        """log q over the vocabulary."""
        self._note("nothing", "full")
        return derivatives.log_probs(self.teacher_logits)

    @cached_property
    def student_entropy(self) -> Tensor:  # [N]
        """H(p), detached: it gates and weighs, it is never an objective."""
        return divergences.entropy(self.student_log_probs.detach())

    @cached_property
    def teacher_entropy(self) -> Tensor:  # [N]
        """H(q)."""
        return divergences.entropy(self.teacher_log_probs)

    @cached_property
    def reverse_kl(self) -> Tensor:  # [N]
        """KL(p‖q), with gradient through p."""
        return derivatives.reverse_kl(self.student_logits, self.student_log_probs, self.teacher_log_probs)

    @cached_property
    def forward_kl(self) -> Tensor:  # [N]
        """KL(q‖p), with gradient through p."""
        return divergences.forward_kl(self.student_log_probs, self.teacher_log_probs)

    def topk(self, k: int, ranked_by: Model) -> Support:
        """Both models' log-probabilities, normalised over the whole vocabulary, on one model's k likeliest tokens."""
        self._note("top-k", "top-k")
        key = (min(k, self.student_logits.shape[-1]), ranked_by)
        if key not in self._index:
            logits = self.student_logits if ranked_by == "student" else self.teacher_logits
            self._index[key] = logits.detach().topk(key[0], -1).indices
        index = self._index[key]
        return Support(index, self._student_at(index), self._teacher_at(index))

    def detached(self) -> "TokenBatch":
        """The same without gradient; what is derived already is not derived again."""
        found = replace(self, student_logits=self.student_logits.detach())
        derived = vars(self).keys() - {own.name for own in fields(self)} - {"_index"}
        vars(found).update({name: vars(self)[name].detach() for name in derived})
        return found

    def at(self, part: slice) -> "TokenBatch":
        """Some of them, without gradient."""
        given = {own.name: getattr(self, own.name) for own in fields(self) if own.init}
        return replace(self, **{name: value.detach()[part] for name, value in given.items() if value is not None})

    def coin(self, probability: Tensor) -> Tensor:  # [N] bool
        """1[uniform < probability]: the only randomness of an estimator, common to all methods at a seed."""
        return self.uniform < probability.detach()

    def _student_at(self, index: Tensor) -> Tensor:
        return derivatives.log_probs_at(self.student_logits, self.student_logsumexp, index)

    def _teacher_at(self, index: Tensor) -> Tensor:
        return divergences.floored(self.teacher_logits.gather(-1, index) - self.teacher_logsumexp[:, None])

    def _note(self, student: Read, teacher: Read) -> None:
        self.cost = self.cost | Cost(student, teacher)


class TokenLoss(NamedTuple):
    """One value per token, to be minimised, and named values per token to log."""

    loss: Tensor  # [N]
    weight: Tensor | None = None  # [N] detached; multiplies the loss in the numerator
    stats: Mapping[str, Tensor] = {}  # each [N]


@dataclass(kw_only=True, eq=False)
class Signals:
    """Detached values of every scored token of the global batch, for what must see the whole batch first."""

    values: Mapping[str, Tensor]  # TokenBatch properties by name, each [N]: those that the estimator names in `signals`
    sequence: Tensor  # [N] which sequence the token belongs to
    position: Tensor  # [N] its place among the scored tokens of that sequence

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def top_share(self, values: Tensor, share: float) -> Tensor:  # [N] bool
        """1[value ≥ the (1 − share) quantile over the batch]."""
        return values >= (torch.quantile(values, 1 - share) if len(values) else 0)

    def before(self, values: Tensor) -> Tensor:  # [N]
        """Σ_{u<t} x_u within each sequence."""
        rows = self._rows(values)
        return self._flat(rows.cumsum(-1) - rows)

    def total(self, values: Tensor) -> Tensor:  # [N]
        """Σ_u x_u of the sequence that the token belongs to."""
        rows = self._rows(values)
        return self._flat(rows.sum(-1, keepdim=True).expand_as(rows))

    def after(self, values: Tensor, gamma: float) -> Tensor:  # [N]
        """Σ_{u>t} γ^{u−t} x_u within each sequence."""
        rows = self._rows(values)
        future = torch.zeros_like(rows)
        for t in range(rows.shape[-1] - 2, -1, -1):
            future[:, t] = gamma * (rows[:, t + 1] + future[:, t + 1])
        return self._flat(future)

    def _rows(self, values: Tensor) -> Tensor:  # [B, T], zero where a sequence has ended
        shape = (int(self.sequence.max()) + 1, int(self.position.max()) + 1) if len(values) else (0, 0)
        rows = values.new_zeros(shape)
        rows[self.sequence, self.position] = values
        return rows

    def _flat(self, rows: Tensor) -> Tensor:
        return rows[self.sequence, self.position]


def _widened(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
