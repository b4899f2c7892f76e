"""Supervised KD: match the teacher along reference answers."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SupKD(Estimator):
    """Full-vocabulary forward KL at the data's prefixes.

        ℓ = KL(q‖p) = Σ_v q(v) (log q(v) − log p(v))

    Gradient p − q flows through p. It is GKD with λ = 0 and β = 0.
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="Supervised KD",
        paper="Hinton et al., arXiv:1503.02531; Sanh et al., arXiv:1910.01108",
        provenance="re-implemented from its definition in GKD, arXiv:2306.13649",
    )
    claims = Claims(target="forward_kl", stationary=True, cost=Cost("full", "full"))
    learns_from = ANY_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(q‖p)."""
        return TokenLoss(tokens.forward_kl)
