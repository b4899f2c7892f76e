"""Uncorrected f-divergence rewards: what OPD+ criticises."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.divergences import F_DIVERGENCES, FDivergenceName
from opd_bench.maths.score import score_loss
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class FDivStopgrad(Estimator):
    """The divergence's own integrand as a reward, its dependence on the student ignored.

        u = q/p
        ℓ = sg[f(u(y))] log p(y),  y ~ p

    Gradient flows through log p(y) alone. Right for the reverse KL only, where the missing term is constant; for the
    forward KL and Pearson χ² it climbs the divergence.
    Proved by tests/identities/test_opd_plus.py::test_stop_gradient_rewards_point_elsewhere.
    """

    divergence: FDivergenceName

    about = About(
        title="f-divergence reward, stop-gradient",
        paper="Zhao et al., OPD+, arXiv:2606.01039v1, baselines “FKL OPD” and “JSD OPD”",
        provenance="re-implemented from the paper, v1",
        warning="the direction of the gradient is wrong except for the reverse KL",
    )

    @property
    def claims(self) -> Claims:
        """Unbiased for the reverse KL only."""
        exact = self.divergence == "reverse_kl"
        bias = "" if exact else f"the {self.divergence} integrand as a reward, without u f′(u)"
        return Claims("reverse_kl" if exact else None, stationary=True, cost=Cost("sampled", "sampled"), bias=bias)

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """sg[f(u)] log p(y)."""
        advantage = -F_DIVERGENCES[self.divergence].f(tokens.log_ratio)
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats={"advantage": advantage})
