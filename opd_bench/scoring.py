"""From hidden states and tokens to one number: which tokens count, what each weighs, and what all are divided by.

Rows that the estimator does not learn from are left out before the heads; the others go through them in chunks. Value
and gradient equal the plain dense form: tests/test_scoring.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.chunks import LOGITS, Chunked, Heads, Look, Observe, Rows, Scored, learnt
from opd_bench.estimators.base import Estimator
from opd_bench.maths.reduction import mean_of
from opd_bench.tokens import Signals, TokenBatch, TokenLoss

__all__ = ["Heads", "Observe", "Scored", "ScoredBatch", "Scorer", "alone", "batch_loss", "learnable"]

Gather = Callable[[Tensor], tuple[Tensor, slice]]
"""One process's rows in, those of all processes in their order out, and which of them are its own."""


def alone(values: Tensor) -> tuple[Tensor, slice]:
    """There is one process."""
    return values, slice(0, len(values))


class ScoredBatch(NamedTuple):
    """One micro-batch, aligned: the states at t score the token at t. Sequences are never split between batches."""

    student: Tensor  # [B, T, H] hidden states; carry the gradient
    teacher: Tensor  # [B, T, H']
    token: Tensor  # [B, T]
    response: Tensor  # [B, T] bool
    origin: Tensor  # [B, T]
    behaviour_logp: Tensor  # [B, T]
    uniform: Tensor  # [B, T]


class Scorer(NamedTuple):
    """An estimator applied to batches, `chunk` tokens at a time; `gather` brings in the other processes' rows."""

    estimator: Estimator
    heads: Heads = LOGITS
    chunk: int | None = None  # None: all of a batch's
    observe: Observe | None = None
    observed: int | None = None  # of a batch's tokens at most so many, evenly spread; None: all
    gather: Gather = alone

    def score(self, batch: ScoredBatch, weight: Tensor | None, progress: float) -> Scored:
        """Σ w ℓ over the tokens that count."""

        def lesson(tokens: TokenBatch) -> TokenLoss:
            return self.estimator.token_loss(tokens, progress)

        return learnt(self._chunked, _rows(self.estimator, batch, weight), lesson, Look(self.observe, self.observed))

    def weights(self, batches: Sequence[ScoredBatch], progress: float) -> Sequence[Tensor | None]:
        """What `weigh` makes of the whole global batch, cut back into one piece per micro-batch of this process."""
        if not self.estimator.signals:
            return [None] * len(batches)
        scored = [learnable(self.estimator, batch.response, batch.origin) for batch in batches]
        lengths, _ = self.gather(torch.cat([mask.sum(-1) for mask in scored]))
        sequence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        position, own = self.gather(torch.cat([(mask.cumsum(-1) - 1)[mask] for mask in scored]))
        values = {name: self.gather(signal)[0] for name, signal in self._signals(batches).items()}
        weight = self.estimator.weigh(Signals(values=values, sequence=sequence, position=position), progress)
        if weight is None:
            return [None] * len(batches)
        dtype = batches[0].student.dtype
        weight = weight[own].to(dtype if dtype == torch.float64 else torch.float32)
        return torch.split(weight, [int(mask.sum()) for mask in scored])

    def denominator(self, batches: Sequence[ScoredBatch], weights: Sequence[Tensor | None]) -> Tensor:
        """The number of scored tokens of the global batch, or the sum of what `weigh` gave them."""
        if self.estimator.denominator == "weights":
            return self.total([weight.sum() for weight in weights if weight is not None])
        return self.total([learnable(self.estimator, batch.response, batch.origin).sum() for batch in batches])

    def total(self, numbers: Sequence[Tensor]) -> Tensor:
        """Σ over micro-batches and processes."""
        return self.gather(torch.stack(list(numbers)).sum().double()[None])[0].sum()

    @torch.no_grad()
    def _signals(self, batches: Sequence[ScoredBatch]) -> dict[str, Tensor]:
        names = self.estimator.signals
        rows = (_rows(self.estimator, batch, None) for batch in batches)
        slices = (tokens for some in rows for tokens in self._chunked.tokens(some))
        found = [[getattr(tokens, name) for name in names] for tokens in slices]
        return {name: torch.cat(parts) for name, parts in zip(names, zip(*found, strict=True), strict=True)}

    @property
    def _chunked(self) -> Chunked:
        return Chunked(self.heads, self.chunk)


def batch_loss(
    estimator: Estimator,
    batches: Sequence[ScoredBatch],
    progress: float,
    chunk: int | None = None,
    heads: Heads = LOGITS,
) -> Tensor:
    """The loss of one optimiser step over its micro-batches: Σ w ℓ over all scored tokens / one global denominator.

    The result is the same however rows are cut into batches and tokens into chunks of at most `chunk`.
    """
    scorer = Scorer(estimator, heads, chunk)
    weights = scorer.weights(batches, progress)
    numerators = [scorer.score(*pair, progress).numerator for pair in zip(batches, weights, strict=True)]
    return mean_of(numerators, scorer.denominator(batches, weights))


def learnable(estimator: Estimator, response: Tensor, origin: Tensor) -> Tensor:
    """True on response tokens whose writer the estimator learns from."""
    writers = torch.tensor(sorted(estimator.learns_from), device=origin.device)
    return response & torch.isin(origin, writers)


def _rows(estimator: Estimator, batch: ScoredBatch, weight: Tensor | None) -> Rows:
    """The tokens that count, flat."""
    mask = learnable(estimator, batch.response, batch.origin)
    return Rows(
        student=batch.student[mask],
        teacher=batch.teacher[mask],
        token=batch.token[mask],
        origin=batch.origin[mask],
        behaviour_logp=batch.behaviour_logp[mask],
        uniform=batch.uniform[mask],
        weight=weight,
    )
