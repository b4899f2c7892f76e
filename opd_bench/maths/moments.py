"""Mean and total variance of vectors: streamed, weighted, unbiased; and in closed form for one scored token."""

import torch
from torch import Tensor

from opd_bench.maths.score import squared_score


class StreamingMoments:
    """Mean and total variance tr Cov of vectors that arrive in blocks [..., n, D]; leading axes are kept apart.

    Blocks are merged about their own means (Chan, Golub, LeVeque), so that a deterministic vector has variance 0
    and not the cancellation error of E‖g‖² − ‖E g‖². With weights, `variance` is the population value Σw‖g − ḡ‖²/Σw;
    `unbiased_variance` and `signal` are for n equally weighted draws.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mass: Tensor = torch.zeros(())
        self.mean: Tensor = torch.zeros(())
        self.scatter: Tensor = torch.zeros(())

    def add(self, values: Tensor, weight: Tensor | None = None) -> None:
        """Take in `values` [..., n, D] with weights [..., n], ones if not given."""
        weight = torch.ones_like(values[..., 0]) if weight is None else weight
        mass = weight.sum(-1)
        mean = (weight[..., None] * values).sum(-2) / _positive(mass)[..., None]
        scatter = (weight * (values - mean[..., None, :]).square().sum(-1)).sum(-1)
        total = self.mass + mass
        gap = mean - self.mean
        self.scatter = self.scatter + scatter + gap.square().sum(-1) * self.mass * mass / _positive(total)
        self.mean = self.mean + gap * (mass / _positive(total))[..., None]
        self.mass = total
        self.count += values.shape[-2]

    @property
    def variance(self) -> Tensor:
        """tr Cov of the weighted population."""
        return self.scatter / _positive(self.mass)

    @property
    def unbiased_variance(self) -> Tensor:
        """tr Cov from n draws: n/(n − 1) · (mean‖g‖² − ‖ḡ‖²)."""
        return self.scatter / (self.count - 1)

    @property
    def signal(self) -> Tensor:
        """‖E g‖² from n draws, unbiased: the mean of ⟨g_i, g_j⟩ over i ≠ j, which is ‖ḡ‖² − tr Cov/n."""
        return self.mean.square().sum(-1) - self.unbiased_variance / self.count


def score_variance(student: Tensor, advantage: Tensor) -> Tensor:
    """tr Cov of A(y)(e_y − p), y ~ p: Σ p A² ‖e_y − p‖² − ‖p ⊙ (A − E_p A)‖². [..., V] → [...], no sampling."""
    p = student.exp()
    mean = p * (advantage - (p * advantage).sum(-1, keepdim=True))
    return (p * advantage.square() * squared_score(student)).sum(-1) - mean.square().sum(-1)


def relative_error(estimate: Tensor, exact: Tensor) -> Tensor:
    """‖estimate − exact‖ / ‖exact‖ over the last axis; not finite where the exact vector is 0."""
    return _norm(estimate - exact) / _norm(exact)


def cosine(estimate: Tensor, exact: Tensor) -> Tensor:
    """Cosine over the last axis; NaN where either vector is 0: a zero vector points nowhere."""
    return (estimate * exact).sum(-1) / (_norm(estimate) * _norm(exact))


def _positive(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, mass, torch.ones_like(mass))


def _norm(vector: Tensor) -> Tensor:
    return vector.square().sum(-1).sqrt()
