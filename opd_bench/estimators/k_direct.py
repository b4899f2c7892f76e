"""K1, K2 and K3 back-propagated: estimators of a KL's value mistaken for estimators of its gradient."""

from dataclasses import dataclass
from typing import Literal

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.divergences import ratio
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class KDirect(Estimator):
    """A per-token estimate of KL(p‖q), differentiated as it stands; Δ = log p(y) − log q(y), y ~ p.

        K1  ℓ = Δ                   mean gradient 0: pure noise
        K2  ℓ = ½ Δ²                gradient Δ ∇log p: OPD's own, sample by sample
        K3  ℓ = exp(−Δ) − 1 + Δ     mean gradient ∇KL(q‖p): the other direction

    Gradient flows through log p(y) wherever it stands. Only K2 has the gradient of what K1 and K3 estimate.
    Proved by tests/identities/test_landscape.py, items 2, 4 and 5.
    """

    order: Literal[1, 2, 3]

    about = About(
        title="K1/K2/K3 back-propagated (diagnostic)",
        paper="On a few pitfalls in KL divergence gradient estimation for RL, arXiv:2506.09477",
        provenance="re-implemented from the paper",
        warning="known wrong, shown for comparison: K1 is noise, K2 has a biased value, K3 is the forward KL",
    )

    @property
    def claims(self) -> Claims:
        """Zero, the reverse KL, the forward KL."""
        target = {1: "zero", 2: "reverse_kl", 3: "forward_kl"}[self.order]
        return Claims(target=target, stationary=True, cost=Cost("sampled", "sampled"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """K of Δ."""
        gap = tokens.student_logp - tokens.teacher_logp
        if self.order == 1:
            return TokenLoss(gap)
        return TokenLoss(gap.square() / 2 if self.order == 2 else ratio(-gap) - 1 + gap)
