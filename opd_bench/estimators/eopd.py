"""EOPD: add forward KL where the teacher is unsure."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.maths.supports import forward_kl_on
from opd_bench.settings import Count, NonNegative
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class EOPD(Estimator):
    """OPD on every token, and forward KL on the teacher's top k where its entropy is high.

        r = log q(y) − log p(y),  q̄ = q renormalised on its top k (Eq. 10), or q itself
        ℓ = −sg[r] log p(y) + α 1[H(q) > τ] Σ_{top-k of q} q̄ (log q̄ − log p),  y ~ p

    Gradient flows through log p. H(q) in nats, over the whole vocabulary. The gate does not change the denominator.
    Proved by tests/identities/test_gates.py::test_eopd_adds_forward_kl_where_the_teacher_is_unsure.
    """

    alpha: NonNegative
    tau: NonNegative
    k: Count
    renormalise: bool

    about = About(
        title="EOPD",
        paper="EOPD (entropy-aware OPD), arXiv:2603.07079 (ICML 2026)",
        provenance="re-implemented from notes on the paper; no code of the authors was readable",
        deviations=("One update per rollout: the paper's ratio is 1 and its clip never binds.",),
    )
    claims = Claims(
        target=None,
        stationary=False,
        cost=Cost("top-k", "full"),
        bias="reverse KL plus α times the forward KL on the teacher's top k where H(q) > τ",
    )

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """OPD plus the gated forward KL."""
        reward = tokens.log_ratio
        gate = (tokens.teacher_entropy > self.tau).to(reward.dtype)
        imitation = forward_kl_on(tokens.topk(self.k, "teacher"), renormalise=self.renormalise)
        loss = score_loss(tokens.student_logp, reward) + self.alpha * gate * imitation
        return TokenLoss(loss, stats={"advantage": reward, "gated": gate})
