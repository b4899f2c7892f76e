"""Score-function losses: a detached number per token times log p(y), and the numbers that the papers put there."""

import math

import torch
from torch import Tensor


def score_loss(logp: Tensor, advantage: Tensor) -> Tensor:
    """−sg[A] log p(y). Its gradient is −A (e_y − p); its value means nothing."""
    return -advantage.detach() * logp


def squared_score(student: Tensor) -> Tensor:
    """‖e_y − p‖² = 1 − 2p(y) + ‖p‖² for every y, [..., V]."""
    p = student.exp()
    return 1 - 2 * p + p.square().sum(-1, keepdim=True)


def optimal_baseline(student: Tensor, reward: Tensor) -> Tensor:
    """b* = E_p[r ‖e_y − p‖²] / E_p[‖e_y − p‖²]: no constant gives a smaller total variance. [..., V] → [...]."""
    mass = student.exp() * squared_score(student)
    return (mass * reward).sum(-1) / mass.sum(-1).clamp_min(torch.finfo(mass.dtype).tiny)


def soft_log(reward: Tensor) -> Tensor:
    """sign(r) log(1 + |r|)."""
    return reward.sign() * reward.abs().log1p()


def power_reward(student_logp: Tensor, teacher_logp: Tensor, alpha: float) -> Tensor:
    """q^α − p^α ∈ [−1, 1]. Over α it tends to log q − log p as α → 0."""
    return (alpha * teacher_logp).exp() - (alpha * student_logp).exp()


def acceptance(log_ratio: Tensor) -> Tensor:
    """min(q/p, 1): the chance that rejection sampling from p keeps the token as one of q. Its mean is 1 − TV(p, q)."""
    return log_ratio.clamp(max=0).exp()


def normalised_floor(lam: float) -> float:
    """log λ / (1 − λ): the limit u → 0 of log((1 − λ)u + λ)/(1 − λ), whose value and slope at u = 1 are r's own."""
    return math.log(lam) / (1 - lam)


def mixture_floor(lam: float) -> float:
    """log(λ / (1 − λ)): max(r, floor) is the hard limit of log(u + λ/(1 − λ)), which tends to r for large u."""
    return math.log(lam / (1 - lam))
