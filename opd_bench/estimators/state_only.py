"""State-only reward: the KL of the prefix as the advantage of whatever token was sampled there."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class StateOnly(Estimator):
    """Policy gradient on a reward that does not depend on the action.

        ℓ = sg[KL(p‖q)] log p(y),  y ~ p

    Gradient flows through log p(y) alone. Its mean is 0: noise, of modest variance. The same number as a baseline
    is vOPD.
    Proved by tests/identities/test_landscape.py, item 7.
    """

    about = About(
        title="State-only reward (diagnostic)",
        paper="a bug met in public trainers (radixark/miles, issue 2362)",
        provenance="re-implemented from the issue",
        warning="known wrong, shown for comparison: its expected gradient is 0",
    )
    claims = Claims(target="zero", stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """sg[KL] log p(y)."""
        return TokenLoss(score_loss(tokens.student_logp, -tokens.reverse_kl))
