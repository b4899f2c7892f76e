"""Closed-form logit gradients of every named target, written from p and q without autograd.

Through a softmax, an objective with derivative a(v) in p(v) has the gradient p ⊙ (a − E_p a).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from opd_bench.estimators.base import Estimator
from opd_bench.tokens import Origin

Oracle = Callable[[Tensor, Tensor, Estimator, float, Origin], Tensor]


def through(p: Tensor, a: Tensor) -> Tensor:
    return p * (a - (p * a).sum(-1, keepdim=True))


def normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def jsd_derivative(p: Tensor, q: Tensor, beta: float) -> Tensor:
    return (1 - beta) * (p / (beta * q + (1 - beta) * p)).log()


def veto_beta(estimator: Estimator, progress: float) -> float:
    return estimator.beta * (1 - progress)


def jsd_half(p: Tensor, q: Tensor, origin: Origin) -> Tensor:
    m = (p + q) / 2
    return through(p, -q / (4 * m) if origin == Origin.TEACHER else ((p / m).log() - p / (2 * m)) / 2)


def skew(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    m = alpha * p + (1 - alpha) * q
    return through(p, (p / m).log() - alpha * p / m)


ORACLES: dict[str, Oracle] = {
    "zero": lambda p, q, e, t, o: torch.zeros_like(p),
    "reverse_kl": lambda p, q, e, t, o: through(p, (p / q).log()),
    "forward_kl": lambda p, q, e, t, o: p - q,
    "jsd": lambda p, q, e, t, o: through(p, jsd_derivative(p, q, getattr(e, "beta", 0.5))),
    "jsd_halves": lambda p, q, e, t, o: jsd_half(p, q, o),
    "half_total_variation": lambda p, q, e, t, o: through(p, (p - q).sign() / 4),
    "total_variation": lambda p, q, e, t, o: through(p, (p - q).sign() / 2),
    "pearson_chi2": lambda p, q, e, t, o: through(p, 1 - (q / p) ** 2),
    "sq_hellinger": lambda p, q, e, t, o: through(p, 1 - (q / p).sqrt()),
    "power": lambda p, q, e, t, o: through(p, p**e.alpha - q**e.alpha),
    "skew_reverse_kl": lambda p, q, e, t, o: skew(p, q, e.alpha),
    "geometric_forward_kl": lambda p, q, e, t, o: p - normalised(q * p ** veto_beta(e, t)),
    "geometric_reverse_kl": lambda p, q, e, t, o: through(p, (1 - veto_beta(e, t)) * p.log() - q.log()),
    "blended_forward_kl": lambda p, q, e, t, o: (
        p - normalised(p ** ((1 - t) * (1 - e.start)) * q ** (1 - (1 - t) * (1 - e.start)) if e.end == 1 else p)
    ),
}
