"""LSM: local support matching on the teacher's likeliest tokens (Revisiting OPD)."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths.supports import renormalised
from opd_bench.settings import Count
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class LSM(Estimator):
    """Reverse KL between both models renormalised on the teacher's top k.

        S = top-k of q,  p̄ = p/P_S,  q̄ = q/Q_S
        ℓ = Σ_S p̄ (log p̄ − log q̄)

    Gradient flows through p̄. The loss does not see how much mass the student has outside S.
    Proved by tests/identities/test_supports.py::test_lsm_gradient_lives_on_the_teachers_support.
    """

    k: Count

    about = About(
        title="LSM (Revisiting OPD)",
        paper="Revisiting OPD, arXiv:2603.25562",
        provenance="re-implemented from the authors' code (hhh675597/revisiting_opd, d10aedb)",
        deviations=(
            "Sampled at top-p 1 like every method; the paper samples at top-p 0.9.",
            "No special-token mask and none of the code's options that are off by default.",
        ),
    )
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("top-k", "top-k"),
        bias="reverse KL on the teacher's top k alone, renormalised",
    )
    learns_from = ANY_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(p̄‖q̄) on the teacher's top k."""
        return TokenLoss(renormalised(tokens.topk(self.k, "teacher")))
