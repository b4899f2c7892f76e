"""Skew reverse KL (DistiLLM): the student is compared with a mixture that it is part of."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths.divergences import skew_reverse_kl
from opd_bench.settings import Share
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SkewRKL(Estimator):
    """Full-vocabulary KL to an arithmetic bridge.

        ℓ = KL(p‖αp + (1 − α)q)

    Gradient flows through p, in the mixture too. The log-ratio is at most −log α; the fixed point stays q.
    Proved by tests/identities/test_landscape.py::test_skewed_log_ratio_is_bounded.
    """

    alpha: Share

    about = About(
        title="Skew reverse KL",
        paper="Ko et al., DistiLLM, arXiv:2402.03898",
        provenance="re-implemented from the paper and the authors' code (jongwooko/distillm)",
        deviations=("On fresh student samples; the paper's adaptive replay of old samples is left out.",),
    )
    learns_from = ANY_TOKENS
    claims = Claims(target="skew_reverse_kl", stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(p‖αp + (1 − α)q)."""
        return TokenLoss(skew_reverse_kl(tokens.student_log_probs, tokens.teacher_log_probs, self.alpha))
