"""vOPD: OPD with the value of the prefix as its baseline."""

from dataclasses import dataclass

from torch import Tensor

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.maths.supports import renormalised
from opd_bench.settings import Count
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class VOPD(Estimator):
    """Policy gradient whose advantage is the reward above its own expectation.

        r = log q(y) − log p(y)
        A = sg[r + KL(p‖q)]     k null: over the vocabulary, E_p[r] = −KL(p‖q)         (Eq. 10)
          = sg[r + KL(p̄‖q̄)]    else: both renormalised on the student's top k        (Eq. 14, 15)
        ℓ = −A log p(y),  y ~ p

    Gradient flows through log p(y) alone. The baseline does not depend on y, so the mean stays ∇KL(p‖q) for every k;
    k = 1 is OPD. The variance falls on average, not at every prefix.
    Proved by tests/identities/test_vopd.py.
    """

    k: Count | None

    about = About(
        title="vOPD",
        paper="Oh, Song, Choi, Choi & Jo, vOPD, arXiv:2605.07865v1",
        provenance="re-implemented from the paper, v1, with the authors' code read (holi-lab/vOPD, c77a078)",
        deviations=("k = 20 as in the paper; the authors' configuration has 100.",),
    )

    @property
    def claims(self) -> Claims:
        """Unbiased for every k."""
        cost = Cost("full", "full") if self.k is None else Cost("top-k", "top-k")
        return Claims(target="reverse_kl", stationary=True, cost=cost)

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−sg[r + KL] log p(y)."""
        gap = self._expected_gap(tokens).detach()
        advantage = tokens.log_ratio + gap
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats={"advantage": advantage, "baseline": -gap})

    def _expected_gap(self, tokens: TokenBatch) -> Tensor:
        return tokens.reverse_kl if self.k is None else renormalised(tokens.topk(self.k, "student"))
