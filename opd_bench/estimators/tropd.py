"""TrOPD: trust the teacher's verdict where the two models overlap, imitate the teacher elsewhere."""

from dataclasses import dataclass
from typing import Literal

import torch

from opd_bench.estimators.base import STUDENT_AND_TEACHER_TOKENS, About, Claims, Estimator
from opd_bench.maths.score import acceptance, score_loss
from opd_bench.maths.supports import forward_kl_on
from opd_bench.settings import Count, NonNegative, NonPositive
from opd_bench.tokens import Cost, Origin, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class TrOPD(Estimator):
    """Trust-region OPD (Eq. 6 and 9); r = log q(y) − log p(y), M ~ Bernoulli(min(q(y)/p(y), 1)).

        ℓ = −M sg[r] log p(y) + (1 − M) outlier               on the student's tokens; outlier is one of
              forward_kl: Σ_{top-k of q} q (log q − log p)    clip: −sg[max(r, floor)] log p(y)    mask: 0
        ℓ = −β log p(y)                                       on the teacher's prefix tokens

    trust: M or its mean ("expected"). Gradient flows through log p alone. Proved by tests/identities/test_tropd.py.
    """

    k: Count
    renormalise: bool
    beta: NonNegative
    trust: Literal["bernoulli", "expected"]
    outlier: Literal["forward_kl", "clip", "mask"]
    floor: NonPositive

    about = About(
        title="TrOPD",
        paper="Xing, Wang, Gao, Li & Tang, TrOPD, arXiv:2606.01249v2",
        provenance="re-implemented from the paper, v2",
        deviations=("The paper gives no floor for clip; REOPOLD's at λ = 0.1 is used.",),
    )
    learns_from = STUDENT_AND_TEACHER_TOKENS

    @property
    def claims(self) -> Claims:
        """The trust region changes the target."""
        reads = Cost("top-k", "top-k") if self.outlier == "forward_kl" else Cost("sampled", "sampled")
        return Claims(None, stationary=True, cost=reads, bias="Σ min(p, q) log(q/p) ∇log p, and the outlier rule")

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """Trusted or outlier on the student's tokens, imitation on the teacher's."""
        reward, logp, chance = tokens.log_ratio, tokens.student_logp, acceptance(tokens.log_ratio)
        trusted = tokens.coin(chance).to(chance.dtype) if self.trust == "bernoulli" else chance
        match self.outlier:
            case "forward_kl":
                outlier = forward_kl_on(tokens.topk(self.k, "teacher"), renormalise=self.renormalise)
            case "clip":
                outlier = score_loss(logp, reward.clamp_min(self.floor))
            case "mask":
                outlier = torch.zeros_like(logp)
        own = trusted * score_loss(logp, reward) + (1 - trusted) * outlier
        loss = torch.where(tokens.origin == Origin.TEACHER, -self.beta * logp, own)
        return TokenLoss(loss, stats={"advantage": reward, "trusted": trusted})
