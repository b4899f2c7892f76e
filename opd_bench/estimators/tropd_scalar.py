"""TrOPD as the authors' code is reported to have it: both imitation terms as numbers on the sampled token."""

from dataclasses import dataclass

import torch

from opd_bench.estimators.base import STUDENT_AND_TEACHER_TOKENS, About, Claims, Estimator
from opd_bench.maths.score import acceptance, score_loss
from opd_bench.maths.supports import forward_kl_on
from opd_bench.settings import Count, NonNegative
from opd_bench.tokens import Cost, Origin, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class TrOPDScalar(Estimator):
    """TrOPD without a gradient through its forward KL; r = log q(y) − log p(y), M ~ Bernoulli(min(q(y)/p(y), 1)).

        F = Σ_{top-k of q} q̄ (log q̄ − log p),  q̄ = q renormalised there
        ℓ = −sg[M r − (1 − M) F] log p(y)      on the student's tokens
          = −sg[−β r] log p(y)                 on the teacher's prefix tokens

    Gradient flows through log p(y) alone. F pushes the sampled token down and pulls nothing up, and the prefix term
    has the wrong sign wherever q > p.
    Proved by tests/identities/test_tropd.py, R6 and R8.
    """

    k: Count
    beta: NonNegative

    about = About(
        title="TrOPD, scalar imitation",
        paper="Xing, Wang, Gao, Li & Tang, TrOPD, arXiv:2606.01249",
        provenance="re-implemented from notes on the authors' code, which was not readable",
        deviations=("The paper's formula differentiates the forward KL and log p: that is tropd.",),
    )
    learns_from = STUDENT_AND_TEACHER_TOKENS
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("top-k", "top-k"),
        bias="Σ min(p, q) log(q/p) ∇log p − F Σ (p − q)₊ ∇log p",
    )

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """Everything a score-function term on y."""
        reward = tokens.log_ratio
        trusted = tokens.coin(acceptance(reward)).to(reward.dtype)
        imitation = forward_kl_on(tokens.topk(self.k, "teacher"), renormalise=True).detach()
        own = trusted * reward - (1 - trusted) * imitation
        advantage = torch.where(tokens.origin == Origin.TEACHER, -self.beta * reward, own)
        stats = {"advantage": advantage, "trusted": trusted}
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats=stats)
