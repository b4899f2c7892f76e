"""KL on a support S of k tokens: what five practices that share the name "top-k" compute.

Log-probabilities are normalised over the whole vocabulary; P_S and Q_S are the masses inside S.
`ranked_by` in TokenBatch.topk says whose k likeliest tokens S are.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.maths.divergences import reverse_kl


class Support(NamedTuple):
    """Log-probabilities of both models on S."""

    ids: Tensor  # [N, K]
    student: Tensor  # [N, K]
    teacher: Tensor  # [N, K]

    def contains(self, token: Tensor) -> Tensor:  # [N] bool
        """Whether each token lies in its S."""
        return (self.ids == token[:, None]).any(-1)

    @property
    def log_ratio(self) -> Tensor:  # [N, K]
        """Δ = log p − log q on S, detached."""
        return (self.student - self.teacher).detach()


def raw(support: Support) -> Tensor:
    """Σ_S p Δ, differentiated as it stands: it also pushes mass out of S, so it is not stationary at p = q."""
    return reverse_kl(support.student, support.teacher)


def stop_gradient(support: Support) -> Tensor:
    """Σ_S p · sg[Δ]: drops the tail, keeps the fixed point."""
    return (support.student.exp() * support.log_ratio).sum(-1)


def renormalised(support: Support) -> Tensor:
    """KL(p̄‖q̄), both models renormalised inside S: blind to the mass outside."""
    return reverse_kl(support.student.log_softmax(-1), support.teacher.log_softmax(-1))


def tail_bucket(support: Support) -> Tensor:
    """KL over k + 1 outcomes, the rest of the vocabulary being one: a lower bound of KL(p‖q), stationary at p = q."""
    tail_p, tail_q = _log_rest(support.student), _log_rest(support.teacher)
    return raw(support) + tail_p.exp() * (tail_p - tail_q)


REVERSE_KL_FORMS: dict[str, Callable[[Support], Tensor]] = {
    "raw": raw,
    "stop_gradient": stop_gradient,
    "renormalised": renormalised,
    "tail_bucket": tail_bucket,
}


def candidate_score(support: Support, weight: Tensor) -> Tensor:
    """Σ_S w Δ · p/sg[p]: a score-function term for every candidate in S, with gradient Σ_S w Δ ∇log p."""
    return (weight.detach() * support.log_ratio * (support.student - support.student.detach()).exp()).sum(-1)


def forward_kl_on(support: Support, *, renormalise: bool) -> Tensor:
    """Σ_S q̃ (log q̃ − log p), q̃ = q or q renormalised inside S; p is never renormalised."""
    teacher = support.teacher.log_softmax(-1) if renormalise else support.teacher
    return (teacher.exp() * (teacher - support.student)).sum(-1)


def _log_rest(log_probs: Tensor) -> Tensor:
    """log(1 − Σ_S p); with S the whole vocabulary the rest is 0, kept finite by the smallest number."""
    rest = 1 - log_probs.exp().sum(-1)
    return rest.clamp_min(torch.finfo(rest.dtype).tiny).log()
