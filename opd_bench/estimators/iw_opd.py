"""IW-OPD: tokens weigh more before the sequence has spent its disagreement with the teacher."""

from dataclasses import dataclass

from torch import Tensor

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.settings import NonNegative
from opd_bench.tokens import Cost, Signals, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class IWOPD(Estimator):
    """OPD with weights that fall along the sequence.

        r = log q(y) − log p(y)
        w_t = 1 + γ (1 − Σ_{u<t} |r_u| / (Σ_u |r_u| + 1e-8))
        ℓ = −w sg[r] log p(y),  y ~ p

    Gradient flows through log p(y) alone. γ = 0 is OPD.
    Proved by tests/identities/test_gates.py::test_iw_opd_weights_fall_from_one_plus_gamma.
    """

    gamma: NonNegative

    about = About(
        title="IW-OPD",
        paper="IW-OPD, arXiv:2606.22600",
        provenance="re-implemented from TRL's iw_opd trainer",
        deviations=("Sampled at top-p 1 like every method; TRL's default is 0.95.",),
    )
    signals = ("log_ratio",)
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("sampled", "sampled"),
        bias="OPD with each prefix scaled by its weight in [1, 1 + γ]",
    )

    def weigh(self, signals: Signals, progress: float) -> Tensor:
        """w, from the whole sequence."""
        size = signals["log_ratio"].abs()
        return 1 + self.gamma * (1 - signals.before(size) / (signals.total(size) + 1e-8))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−w sg[r] log p(y)."""
        reward = tokens.log_ratio
        return TokenLoss(score_loss(tokens.student_logp, reward), weight=tokens.weight, stats={"advantage": reward})
