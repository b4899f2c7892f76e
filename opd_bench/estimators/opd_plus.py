"""OPD+: any f-divergence by the score function, with the term that the student's own ratio adds."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.divergences import F_DIVERGENCES, FDivergenceName
from opd_bench.maths.score import score_loss
from opd_bench.settings import Positive
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class OPDPlus(Estimator):
    """Policy gradient for D_f = E_p[f(u)], u = q/p.

        w(u) = −f(u) + u f′(u)          ∇u = −u ∇log p gives the second term
        ℓ = −sg[w(u(y)) − b] log p(y),  y ~ p
        b = 0, or E_p[w(u)] = Σ_v p w(u) if baseline is value

    Gradient flows through log p(y) alone; its mean is ∇D_f for every f and either b. `clamp` c limits |log u| to c
    first, which is a bias where it binds.
    Proved by tests/identities/test_opd_plus.py.
    """

    divergence: FDivergenceName
    baseline: Literal["none", "value"]
    clamp: Positive | None

    about = About(
        title="OPD+",
        paper="Zhao, Chen, Lin, Winata, Yao & Tang, OPD+, arXiv:2606.01039v1",
        provenance="re-implemented from the paper, v1",
        deviations=("χ², total variation and Hellinger are derived here; the paper has KL, reverse KL and JSD.",),
    )

    @property
    def claims(self) -> Claims:
        """Unbiased for D_f unless clamped."""
        reads = Cost("full", "full") if self.baseline == "value" else Cost("sampled", "sampled")
        if self.clamp is None:
            return Claims(self.divergence, stationary=True, cost=reads)
        return Claims(None, stationary=True, cost=reads, bias=f"{self.divergence} with |log u| ≤ {self.clamp:g}")

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−sg[w(u) − b] log p(y)."""
        advantage = self._weight(tokens.log_ratio)
        if self.baseline == "value":
            student = tokens.student_log_probs.detach()
            advantage = advantage - (student.exp() * self._weight(tokens.teacher_log_probs - student)).sum(-1)
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats={"advantage": advantage})

    def _weight(self, log_ratio: Tensor) -> Tensor:
        limit = torch.inf if self.clamp is None else self.clamp
        return F_DIVERGENCES[self.divergence].weight(log_ratio.clamp(-limit, limit))
