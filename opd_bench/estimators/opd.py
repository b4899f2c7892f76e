"""OPD: reverse KL by the score function, one sampled token at a time. The field's default."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class OPD(Estimator):
    """Policy gradient with the K1 reward.

        r = log q(y) − log p(y)
        ℓ = −sg[r] log p(y),  y ~ p

    Gradient flows through log p(y) alone. Its mean is ∇KL(p‖q) at the prefix, because E_p[∇log p] = 0.
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="OPD (K1 policy gradient)",
        paper="Lu & Thinking Machines Lab, On-Policy Distillation, 2025",
        provenance="re-implemented from the public recipe in tinker-cookbook (9dfcc3a)",
        deviations=("One update per rollout, so the ratio to the sampling policy is 1 and is left out.",),
    )
    claims = Claims(target="reverse_kl", stationary=True, cost=Cost("sampled", "sampled"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−sg[r] log p(y)."""
        reward = tokens.log_ratio
        return TokenLoss(score_loss(tokens.student_logp, reward), stats={"advantage": reward})
