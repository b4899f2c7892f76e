"""Divergences between student p and teacher q, from log-probabilities over the last axis.

Every function returns one value per leading index and carries gradient through the student.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from opd_bench.maths.targets import arithmetic

LOG_ZERO = -1e3
"""Log of a probability that is zero: exp of it is exactly 0, and 0 · LOG_ZERO is 0 where 0 · (−inf) would be NaN."""


def floored(log_probs: Tensor) -> Tensor:
    """max(log p, LOG_ZERO); no gradient where the floor holds."""
    return log_probs.clamp_min(LOG_ZERO)


def log_probs(logits: Tensor) -> Tensor:
    """Floored log-softmax."""
    return floored(logits.log_softmax(-1))


def entropy(log_p: Tensor) -> Tensor:
    """H(p) = −Σ p log p."""
    return -(log_p.exp() * log_p).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p‖q) = Σ p (log p − log q)."""
    return (student.exp() * (student - teacher)).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(q‖p) = Σ q (log q − log p)."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def jsd(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """β KL(q‖m) + (1 − β) KL(p‖m), m = βq + (1 − β)p.

    The formula vanishes at both ends, so β = 0 means KL(q‖p) and β = 1 means KL(p‖q), as its limits JSD/β and
    JSD/(1 − β) do. Proved by tests/identities/test_landscape.py::test_jsd_tends_to_both_kls.
    """
    if beta == 0:
        return forward_kl(student, teacher)
    if beta == 1:
        return reverse_kl(student, teacher)
    mixture = arithmetic(teacher, student, beta)
    return beta * reverse_kl(teacher, mixture) + (1 - beta) * reverse_kl(student, mixture)


def skew_reverse_kl(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """KL(p‖αp + (1 − α)q); the integrand is at most −log α."""
    return reverse_kl(student, arithmetic(student, teacher, alpha))


def total_variation(student: Tensor, teacher: Tensor) -> Tensor:
    """½ Σ |p − q|."""
    return (student.exp() - teacher.exp()).abs().sum(-1) / 2


def reverse_kl_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    """∂KL(p‖q)/∂z = p ⊙ (Δ − KL), Δ = log p − log q, in closed form."""
    return student.exp() * (student - teacher - reverse_kl(student, teacher)[..., None])


def forward_kl_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    """∂KL(q‖p)/∂z = p − q, in closed form."""
    return student.exp() - teacher.exp()


def ratio(log_ratio: Tensor) -> Tensor:
    """u = exp(log u), held below √max of its type, so that u² is finite. float32: u ≤ e⁴³; float64: u ≤ e³⁵³."""
    return log_ratio.clamp(max=math.log(torch.finfo(log_ratio.dtype).max) / 2 - 1).exp()


class FDivergence(NamedTuple):
    """D_f = E_p[f(u)], u = q/p, in terms of log u, and the reward whose score-function gradient is −∇D_f.

    weight is w_f(u) = −f(u) + u f′(u): the second term is there because u depends on the student itself.
    """

    f: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


FDivergenceName = Literal[
    "forward_kl", "reverse_kl", "jsd", "pearson_chi2", "neyman_chi2", "total_variation", "sq_hellinger"
]
F_DIVERGENCES: dict[FDivergenceName, FDivergence] = {
    "forward_kl": FDivergence(lambda x: ratio(x) * x, ratio),
    "reverse_kl": FDivergence(lambda x: -x, lambda x: x - 1),
    "jsd": FDivergence(lambda x: (ratio(x) * (x - _log_mean(x)) - _log_mean(x)) / 2, lambda x: _log_mean(x) / 2),
    "pearson_chi2": FDivergence(lambda x: (ratio(x) - 1) ** 2, lambda x: ratio(x) ** 2 - 1),
    "neyman_chi2": FDivergence(lambda x: (1 - ratio(x)) ** 2 * ratio(-x), lambda x: 2 - 2 * ratio(-x)),
    "total_variation": FDivergence(lambda x: (ratio(x) - 1).abs() / 2, lambda x: x.sign() / 2),
    "sq_hellinger": FDivergence(lambda x: (1 - ratio(x / 2)) ** 2, lambda x: ratio(x / 2) - 1),
}


def _log_mean(log_u: Tensor) -> Tensor:
    """log((1 + u)/2), without forming u."""
    return torch.logaddexp(torch.zeros_like(log_u), log_u) - math.log(2)
