"""From hidden states and tokens to one number: the only place where memory of size [tokens, V] is spent.

Rows that the estimator does not learn from are left out before the heads. The rest is walked in chunks: both heads,
the estimator's loss and its gradient in the chunk's logits at once, so that nothing of size [chunk, V] outlives its
chunk, and no projection is done twice. Value and gradient equal the plain dense form: tests/test_scoring.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opd_bench.estimators.base import Estimator
from opd_bench.maths.reduction import mean_of, weighted_sum
from opd_bench.models.network import Head
from opd_bench.tokens import Signals, TokenBatch

Observe = Callable[[TokenBatch], Mapping[str, Tensor]]
"""Named values per token to watch, of tokens without gradient."""

Gather = Callable[[Tensor], tuple[Tensor, slice]]
"""One process's rows in, those of all processes in their order out, and which of them are its own."""


def alone(values: Tensor) -> tuple[Tensor, slice]:
    """There is one process."""
    return values, slice(0, len(values))


class Heads(NamedTuple):
    """How hidden states become logits; by default they are the logits."""

    student: Head = Head()
    teacher: Head = Head()


LOGITS = Heads()


class ScoredBatch(NamedTuple):
    """One micro-batch, aligned: the states at t score the token at t. Sequences are never split between batches."""

    student: Tensor  # [B, T, H] hidden states; carry the gradient
    teacher: Tensor  # [B, T, H']
    token: Tensor  # [B, T]
    response: Tensor  # [B, T] bool
    origin: Tensor  # [B, T]
    behaviour_logp: Tensor  # [B, T]
    uniform: Tensor  # [B, T]


class Scored(NamedTuple):
    """The numerator Σ w ℓ of one micro-batch, with gradient, and what was watched."""

    numerator: Tensor
    stats: Mapping[str, Tensor]  # the estimator's own, each [N]
    observed: Mapping[str, Tensor]  # the observer's, each [N]


class Scorer(NamedTuple):
    """An estimator applied to batches, `chunk` tokens at a time; `gather` brings in the other processes' rows."""

    estimator: Estimator
    heads: Heads = LOGITS
    chunk: int | None = None
    observe: Observe | None = None
    gather: Gather = alone

    def score(self, batch: ScoredBatch, weight: Tensor | None, progress: float) -> Scored:
        """Σ w ℓ over the tokens that count."""
        rows = _Rows.of(self.estimator, batch, weight)
        notes = _Notes([], [])
        head = self.heads.student
        apply: Callable[..., Tensor] = _InChunks.apply
        numerator = apply(self, rows, progress, notes, rows.student, head.weight, head.bias)
        return Scored(numerator, _joined(notes.stats), _joined(notes.observed))

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
        chunks = [
            {name: getattr(tokens, name) for name in names}
            for batch in batches
            for tokens in self._chunks(_Rows.of(self.estimator, batch, None))
        ]
        return _joined(chunks)

    def _chunks(self, rows: "_Rows") -> Iterator[TokenBatch]:
        for part in rows.parts(self.chunk):
            yield self._tokens(rows, part, self.heads.student.logits(self.heads.student.project(rows.student[part])))

    def _tokens(self, rows: "_Rows", part: slice, student_logits: Tensor) -> TokenBatch:
        with torch.no_grad():
            teacher_logits = self.heads.teacher.logits(self.heads.teacher.project(rows.teacher[part]))
        return TokenBatch(
            student_logits=student_logits,
            teacher_logits=teacher_logits,
            token=rows.token[part],
            origin=rows.origin[part],
            behaviour_logp=rows.behaviour_logp[part],
            uniform=rows.uniform[part],
            weight=None if rows.weight is None else rows.weight[part],
        )


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


class _Rows(NamedTuple):
    """The tokens that count, flat."""

    student: Tensor  # [N, H]
    teacher: Tensor  # [N, H']
    token: Tensor  # [N]
    origin: Tensor  # [N]
    behaviour_logp: Tensor  # [N]
    uniform: Tensor  # [N]
    weight: Tensor | None  # [N]

    @classmethod
    def of(cls, estimator: Estimator, batch: ScoredBatch, weight: Tensor | None) -> "_Rows":
        mask = learnable(estimator, batch.response, batch.origin)
        return cls(
            student=batch.student[mask],
            teacher=batch.teacher[mask],
            token=batch.token[mask],
            origin=batch.origin[mask],
            behaviour_logp=batch.behaviour_logp[mask],
            uniform=batch.uniform[mask],
            weight=weight,
        )

    def parts(self, chunk: int | None) -> Iterator[slice]:
        """At least one, if an empty one."""
        size = chunk or max(1, len(self.token))
        return (slice(start, start + size) for start in range(0, max(1, len(self.token)), size))


class _Notes(NamedTuple):
    """What was seen on the way, chunk by chunk."""

    stats: list[Mapping[str, Tensor]]
    observed: list[Mapping[str, Tensor]]


class _InChunks(torch.autograd.Function):
    """Σ w ℓ of all rows; the gradients in hidden states, head weight and bias are made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        scorer: Scorer,
        rows: _Rows,
        progress: float,
        notes: "_Notes",
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        given, needed = (hidden, weight, bias), ctx.needs_input_grad[4:]
        gradients = [_sum_like(value) if need else None for value, need in zip(given, needed, strict=True)]
        head, total = scorer.heads.student, torch.zeros((), dtype=torch.float64, device=hidden.device)
        for part in rows.parts(scorer.chunk):
            projected = head.project(hidden[part]).detach().requires_grad_()
            with torch.enable_grad():
                tokens = scorer._tokens(rows, part, head.logits(projected))
                result = scorer.estimator.token_loss(tokens, progress)
                value = weighted_sum(result.loss, result.weight)
            total += value.detach()
            notes.stats.append({name: values.detach() for name, values in result.stats.items()})
            notes.observed.append(_observed(scorer, tokens))
            if any(sums is not None for sums in gradients) and value.requires_grad:
                (slope,) = torch.autograd.grad(value, projected)
                _accumulate(gradients, slope, hidden[part], weight, part)
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [None if value is None else value.dtype for value in given]
        return total.to(value.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        gradients = (None if x is None else (x * upstream.to(x.dtype)).to(dtype) for x, dtype in sums)
        return None, None, None, None, *gradients


def _sum_like(value: Tensor | None) -> Tensor | None:
    """Zeros to add to: many chunks add up in float32 at least."""
    if value is None:
        return None
    return torch.zeros_like(value, dtype=torch.float64 if value.dtype == torch.float64 else torch.float32)


def _accumulate(
    gradients: list[Tensor | None], slope: Tensor, hidden: Tensor, weight: Tensor | None, part: slice
) -> None:
    """Add a chunk's share, from its gradient in the projection."""
    of_hidden, of_weight, of_bias = gradients
    width = slope.shape[-1]  # of the head's tokens, the first so many count
    if of_hidden is not None and weight is None:
        of_hidden[part, :width] = slope
    elif of_hidden is not None and weight is not None:
        of_hidden[part] = slope @ weight[:width]
    if of_weight is not None:
        of_weight[:width].addmm_(slope.to(of_weight.dtype).T, hidden.to(of_weight.dtype))
    if of_bias is not None:
        of_bias[:width] += slope.sum(0)


def _observed(scorer: Scorer, tokens: TokenBatch) -> Mapping[str, Tensor]:
    """What the observer makes of the same tokens without gradient."""
    if scorer.observe is None:
        return {}
    plain = replace(tokens, student_logits=tokens.student_logits.detach())
    with torch.no_grad():
        return scorer.observe(plain)


def _joined(chunks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]} if chunks else {}
