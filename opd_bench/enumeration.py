"""Exact moments of an estimator at fixed prefixes: every token enumerated, every coin split at its threshold."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opd_bench.catalogue import load_method
from opd_bench.estimators.base import Estimator
from opd_bench.maths import divergences
from opd_bench.maths.moments import StreamingMoments, cosine, relative_error
from opd_bench.tokens import Cost, Origin, Signals, TokenBatch

CELLS = 2**18
"""Logits held at once: longer enumerations are cut into blocks, this small because they are 2-4 times faster so."""


class ExactMoments(NamedTuple):
    """Moments of the gradient of `token_loss` in the student's logits; one value a prefix.

    Bias and cosine compare the direction of descent with −∇KL(p‖q) and −∇KL(q‖p). Where the vector that they divide
    by is 0, as ∇KL is where the models agree, a bias is not finite and a cosine is NaN.
    """

    mean: Tensor  # [..., V]
    variance: Tensor  # [...] tr Cov
    bias_reverse_kl: Tensor  # [...] ‖mean − ∇KL(p‖q)‖ / ‖∇KL(p‖q)‖
    cosine_reverse_kl: Tensor  # [...]
    bias_forward_kl: Tensor  # [...]
    cosine_forward_kl: Tensor  # [...]
    cost: Cost  # what was read of each model


def exact_moments(
    method: str | Estimator,
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    progress: float = 0.0,
    origin: str = "student",
    sampler_logits: Tensor | None = None,
    **fields: Any,
) -> ExactMoments:
    """Mean, total variance, bias and direction of a method's gradient at prefixes [V] or [B, V], without sampling.

    `method` is a METHOD name or an estimator; `fields` override the settings of the former. The scored token is
    written by `origin`: it has the distribution of `sampler_logits`, by default the student's own, or the teacher's
    where the teacher or the data wrote it. Each prefix is a sequence of one token; statistics over the batch are
    taken over the prefixes given. The batch's denominator is not part of the moments. float64 in, float64 exact.

        exact_moments("vopd_topk", student_logits, teacher_logits, k=5).variance
    """
    estimator = _estimator(method, fields)
    writer = _writer(origin, estimator)
    if not isinstance(progress, (int, float)) or not 0 <= progress <= 1:
        raise ValueError(f"progress must be in [0, 1], got {progress!r}")
    student, teacher = _prefixes("student_logits", student_logits), _prefixes("teacher_logits", teacher_logits)
    default = student if writer == Origin.STUDENT else teacher
    sampler = default if sampler_logits is None else _prefixes("sampler_logits", sampler_logits)
    if len(sampler) == 1:  # one sampler for all prefixes
        sampler = sampler.expand(len(student), -1)
    for name, logits in (("teacher_logits", teacher), ("sampler_logits", sampler)):
        if logits.shape != student.shape:
            shapes = f"{tuple(logits.shape)} and {tuple(student.shape)}"
            raise ValueError(f"{name} must have the shape [B, V] of student_logits, got {shapes}")
    prefixes = _Prefixes(student, teacher, divergences.log_probs(sampler), writer)

    moments = StreamingMoments()
    weights, cost = _weights(estimator, prefixes, progress)
    for gradient, probability, read in _enumerated(estimator, prefixes, weights, progress):
        moments.add(gradient, probability)
        cost = cost | read
    return _summary(moments, cost, prefixes, student_logits.dim() == 1)


class _Prefixes(NamedTuple):
    student: Tensor  # [B, V]
    teacher: Tensor  # [B, V]
    sampler: Tensor  # [B, V] log-probabilities
    writer: Origin

    def tokens(self, index: Tensor, weight: Tensor | None = None) -> "_EnumeratedTokens":
        """Every prefix crossed with every token of `index` [n]: B·n rows."""
        count, vocabulary = len(index), self.student.shape[-1]
        student = self.student[:, None].expand(-1, count, -1).reshape(-1, vocabulary).detach().clone()
        token = index.repeat(len(self.student))
        return _EnumeratedTokens(
            student_logits=student.requires_grad_(),
            teacher_logits=self.teacher[:, None].expand(-1, count, -1).reshape(-1, vocabulary),
            token=token,
            origin=torch.full_like(token, self.writer),
            behaviour_logp=self.sampler[:, index].reshape(-1),
            uniform=torch.zeros_like(student[:, 0]),
            weight=None if weight is None else weight[:, index].reshape(-1),
        )


class _EnumeratedTokens(TokenBatch):
    """Tokens whose coins are laid down by hand: all fall by one `level`, and their thresholds are kept.

    They also note whether anybody looks which token was drawn.
    """

    looked_at = False

    @property
    def token(self) -> Tensor:
        self.looked_at = True
        return self._token

    @token.setter
    def token(self, value: Tensor) -> None:
        self._token = value

    @property
    def behaviour_logp(self) -> Tensor:
        self.looked_at = True
        return self._behaviour_logp

    @behaviour_logp.setter
    def behaviour_logp(self, value: Tensor) -> None:
        self._behaviour_logp = value

    @property
    def uniform(self) -> Tensor:
        raise AttributeError("read `uniform` through tokens.coin(probability), so that it can be enumerated exactly")

    @uniform.setter
    def uniform(self, value: Tensor) -> None:
        self.level = value
        self.thresholds: list[Tensor] = []

    def coin(self, probability: Tensor) -> Tensor:
        self.thresholds.append(probability.detach().expand_as(self.level).clamp(0, 1))
        return self.level < probability.detach()


def _enumerated(
    estimator: Estimator, prefixes: _Prefixes, weights: Tensor | None, progress: float
) -> Iterator[tuple[Tensor, Tensor, Cost]]:
    """Gradients of all tokens; where the loss does not look which was drawn, the one that all have in common."""
    tokens = prefixes.tokens(torch.tensor([0]))
    gradient = logit_gradient(estimator, tokens, progress)
    if weights is None and not tokens.looked_at and not tokens.thresholds:
        yield gradient[:, None], torch.ones_like(gradient[:, :1]), tokens.cost
        return
    for index in _blocks(*prefixes.student.shape):
        yield from _gradients(estimator, prefixes, index, weights, progress)


def _gradients(
    estimator: Estimator, prefixes: _Prefixes, index: Tensor, weights: Tensor | None, progress: float
) -> Iterator[tuple[Tensor, Tensor, Cost]]:
    """Logit gradients [B, n, V] with the probabilities [B, n] of their tokens and of how the coins fell."""
    first = prefixes.tokens(index, weights)
    probability = prefixes.sampler[:, index].exp()
    gradient = logit_gradient(estimator, first, progress)
    edges = torch.stack([torch.zeros_like(first.level), *first.thresholds, torch.ones_like(first.level)]).sort(0).values
    for low, high in pairwise(edges):
        if first.thresholds:
            tokens = prefixes.tokens(index, weights)
            tokens.level = (low + high) / 2
            gradient = logit_gradient(estimator, tokens, progress)
        mass = probability * (high - low).view_as(probability)
        # A token that cannot be drawn has no say, whatever its gradient.
        rows = torch.where(mass.view(-1, 1) > 0, gradient, 0.0)
        yield rows.view(*mass.shape, -1), mass, first.cost


def logit_gradient(estimator: Estimator, tokens: TokenBatch, progress: float) -> Tensor:  # [N, V]
    """∂(w ℓ)/∂(student logits), row by row; 0 where the loss does not depend on them."""
    result = estimator.token_loss(tokens, progress)
    loss = result.loss if result.weight is None else result.weight.detach() * result.loss
    if not loss.requires_grad:
        return torch.zeros_like(tokens.student_logits)
    (gradient,) = torch.autograd.grad(loss.sum(), tokens.student_logits, materialize_grads=True)
    return gradient


@torch.no_grad()
def _weights(estimator: Estimator, prefixes: _Prefixes, progress: float) -> tuple[Tensor | None, Cost]:
    """What `weigh` returns for every prefix and token, [B, V], and what it read."""
    cost = Cost("nothing", "nothing")
    if not estimator.signals:
        return None, cost
    rows = torch.arange(len(prefixes.student))
    columns = []
    for index in _blocks(*prefixes.student.shape):
        tokens = prefixes.tokens(index)
        values = {name: getattr(tokens, name).detach().view(len(rows), -1) for name in estimator.signals}
        cost = cost | tokens.cost
        for place in range(len(index)):  # one token of every prefix is a batch
            batch = {name: value[:, place] for name, value in values.items()}
            weight = estimator.weigh(Signals(values=batch, sequence=rows, position=torch.zeros_like(rows)), progress)
            if weight is None:
                return None, cost
            columns.append(weight.to(prefixes.student))
    return torch.stack(columns, 1), cost


def _summary(moments: StreamingMoments, cost: Cost, prefixes: _Prefixes, single: bool) -> ExactMoments:
    student, teacher = divergences.log_probs(prefixes.student), divergences.log_probs(prefixes.teacher)
    values = (moments.mean, moments.variance, student, teacher)
    mean, variance, student, teacher = (value[0] if single else value for value in values)
    reverse = divergences.reverse_kl_gradient(student, teacher)
    forward = divergences.forward_kl_gradient(student, teacher)
    # A mean below the rounding error of the gradients that it sums is 0, and 0 points nowhere.
    size = (variance + mean.square().sum(-1)).sqrt() * mean.shape[-1] * torch.finfo(mean.dtype).eps
    direction = torch.where(mean.norm(dim=-1, keepdim=True) > size[..., None], mean, 0.0)
    return ExactMoments(
        mean=mean,
        variance=variance,
        bias_reverse_kl=relative_error(mean, reverse),
        cosine_reverse_kl=cosine(direction, reverse),
        bias_forward_kl=relative_error(mean, forward),
        cosine_forward_kl=cosine(direction, forward),
        cost=cost,
    )


def _blocks(prefixes: int, vocabulary: int) -> Iterator[Tensor]:
    """The vocabulary in runs small enough that a run of every prefix stays within CELLS."""
    size = max(1, CELLS // (prefixes * vocabulary))
    return (torch.arange(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size))


def _estimator(method: str | Estimator, fields: dict[str, Any]) -> Estimator:
    if isinstance(method, str):
        return load_method(method, **fields).estimator
    if not isinstance(method, Estimator):
        raise ValueError(f"method must be the name of a METHOD or an Estimator, got {method!r}")
    if fields:
        raise ValueError(f"fields override the settings of a method's name; {type(method).__name__} is made already")
    return method


def _writer(origin: str, estimator: Estimator) -> Origin:
    if str(origin).upper() not in Origin.__members__:
        raise ValueError(f"origin must be one of student, teacher, data, got {origin!r}")
    writer = Origin[origin.upper()]
    if writer not in estimator.learns_from:
        learnt = ", ".join(sorted(one.name.lower() for one in estimator.learns_from))
        raise ValueError(f"origin must be one that {type(estimator).__name__} learns from ({learnt}), got {origin!r}")
    return writer


def _prefixes(name: str, logits: Tensor) -> Tensor:
    if logits.dim() not in (1, 2) or not logits.is_floating_point() or not logits.numel():
        got = f"{logits.dtype} {tuple(logits.shape)}"
        raise ValueError(f"{name} must be floating point of shape [V] or [B, V], none of them 0, got {got}")
    return logits.detach().reshape(-1, logits.shape[-1])
