"""REOPOLD: a floor under the reward, first dropping what hits it, then keeping what the student is unsure of."""

from dataclasses import dataclass

from torch import Tensor

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.settings import NonPositive, Share
from opd_bench.tokens import Cost, Signals, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class REOPOLD(Estimator):
    """Relaxed OPD in two phases.

        r = log q(y) − log p(y)
        M = 1[r ≥ floor]                               progress < switch
          = 1[H(p) ≥ its (1 − β) quantile]             afterwards, over the tokens of the global batch
        loss = Σ −M sg[max(r, floor)] log p(y) / Σ M,  y ~ p

    Gradient flows through log p(y) alone. The denominator counts kept tokens only. Sources disagree on the floor:
    log λ/(1 − λ), or log(λ/(1 − λ)); both are in maths/score.py, and the field is the floor itself.
    Proved by tests/identities/test_gates.py::test_reopold_without_floor_and_gate_is_opd and the two after it.
    """

    floor: NonPositive
    beta: Share
    switch: Share

    about = About(
        title="REOPOLD",
        paper="REOPOLD (relaxed OPD), arXiv:2603.11137 (NeurIPS 2026)",
        provenance="re-implemented from notes on the paper and from vOPD's repository; no code of the authors exists",
        deviations=("One update per rollout: the paper's one-sided clip never binds.",),
    )
    signals = ("log_ratio", "student_entropy")
    denominator = "weights"
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("full", "sampled"),
        bias="OPD with floored rewards on kept tokens alone",
    )

    def weigh(self, signals: Signals, progress: float) -> Tensor:
        """M, over the whole batch."""
        if progress < self.switch:
            return signals["log_ratio"] >= self.floor
        return signals.top_share(signals["student_entropy"], self.beta)

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−M sg[max(r, floor)] log p(y)."""
        advantage = tokens.log_ratio.clamp_min(self.floor)
        loss = score_loss(tokens.student_logp, advantage)
        return TokenLoss(loss, weight=tokens.weight, stats={"advantage": advantage})
