"""Soft-log OPD: the reward's magnitude compressed by a logarithm."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss, soft_log
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SoftLog(Estimator):
    """Policy gradient on a compressed K1 reward.

        r = log q(y) − log p(y)
        ℓ = −sg[sign(r) log(1 + |r|)] log p(y),  y ~ p

    Gradient flows through log p(y) alone. Close to OPD for small r, far gentler for large.
    Proved by tests/identities/test_gates.py::test_soft_log_keeps_sign_and_order.
    """

    about = About(
        title="Soft-log OPD",
        paper="arXiv:2607.13399",
        provenance="re-implemented from notes on the paper",
    )
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("sampled", "sampled"),
        bias="OPD with large rewards compressed",
    )

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−sg[soft-log r] log p(y)."""
        advantage = soft_log(tokens.log_ratio)
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats={"advantage": advantage})
