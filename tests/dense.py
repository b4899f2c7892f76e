"""From logits to one number: the plain, dense form of what a step computes.

Tokens that the estimator does not learn from are left out before it sees anything; the rest is walked in chunks.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.estimators.base import Estimator
from opd_bench.maths.reduction import mean_of, weighted_sum
from opd_bench.tokens import Signals, TokenBatch


class ScoredBatch(NamedTuple):
    """One micro-batch, aligned: the logits at t score the token at t. Sequences are never split between batches."""

    student_logits: Tensor  # [B, T, V] carries the gradient
    teacher_logits: Tensor  # [B, T, V]
    token: Tensor  # [B, T]
    response: Tensor  # [B, T] bool
    origin: Tensor  # [B, T]
    behaviour_logp: Tensor  # [B, T]
    uniform: Tensor  # [B, T]


def batch_loss(
    estimator: Estimator, batches: Sequence[ScoredBatch], progress: float, chunk: int | None = None
) -> Tensor:
    """The loss of one optimiser step over its micro-batches: Σ w ℓ over all scored tokens / one global denominator.

    The result is the same however rows are cut into batches and tokens into chunks of at most `chunk`.
    """
    weights = _weights(estimator, batches, progress, chunk)
    numerators, denominator = [], torch.zeros((), dtype=torch.float64)
    for batch, weight in zip(batches, weights, strict=True):
        for tokens in _chunks(estimator, batch, weight, chunk):
            result = estimator.token_loss(tokens, progress)
            numerators.append(weighted_sum(result.loss, result.weight))
            counted = result.weight if estimator.denominator == "weights" else None
            denominator = denominator + (len(tokens.token) if counted is None else counted.detach().sum())
    return mean_of(numerators, denominator)


def learnable(estimator: Estimator, response: Tensor, origin: Tensor) -> Tensor:
    """True on response tokens whose writer the estimator learns from."""
    writers = torch.tensor(sorted(estimator.learns_from), device=origin.device)
    return response & torch.isin(origin, writers)


def _weights(
    estimator: Estimator, batches: Sequence[ScoredBatch], progress: float, chunk: int | None
) -> Sequence[Tensor | None]:
    """What `weigh` makes of the whole global batch, cut back into one piece per micro-batch."""
    if not estimator.signals:
        return [None] * len(batches)
    scored = [learnable(estimator, batch.response, batch.origin) for batch in batches]
    lengths = torch.cat([mask.sum(-1) for mask in scored])
    sequence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    position = torch.cat([(mask.cumsum(-1) - 1)[mask] for mask in scored])
    signals = Signals(values=_signals(estimator, batches, chunk), sequence=sequence, position=position)
    weight = estimator.weigh(signals, progress)
    if weight is None:
        return [None] * len(batches)
    dtype = batches[0].student_logits.dtype
    weight = weight.to(dtype if dtype == torch.float64 else torch.float32)
    return torch.split(weight, [int(mask.sum()) for mask in scored])


@torch.no_grad()
def _signals(estimator: Estimator, batches: Sequence[ScoredBatch], chunk: int | None) -> dict[str, Tensor]:
    chunks = [tokens for batch in batches for tokens in _chunks(estimator, batch, None, chunk)]
    return {name: torch.cat([getattr(tokens, name) for tokens in chunks]) for name in estimator.signals}


def _chunks(estimator: Estimator, batch: ScoredBatch, weight: Tensor | None, chunk: int | None) -> Iterator[TokenBatch]:
    mask = learnable(estimator, batch.response, batch.origin)
    rows = [field[mask] for field in batch if field is not batch.response]
    size = chunk or max(1, len(rows[0]))
    for start in range(0, max(1, len(rows[0])), size):
        part = slice(start, start + size)
        student, teacher, token, origin, behaviour, uniform = (row[part] for row in rows)
        yield TokenBatch(
            student_logits=student,
            teacher_logits=teacher,
            token=token,
            origin=origin,
            behaviour_logp=behaviour,
            uniform=uniform,
            weight=None if weight is None else weight[part],
        )
