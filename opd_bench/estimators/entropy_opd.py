"""Entropy-OPD: OPD on the tokens that the student is least sure of."""

from dataclasses import dataclass

from torch import Tensor

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.settings import Share
from opd_bench.tokens import Cost, Signals, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class EntropyOPD(Estimator):
    """OPD restricted to the top share of student entropy in the batch.

        M = 1[H(p) ≥ its (1 − share) quantile over the tokens of the global batch]
        ℓ = −M sg[r] log p(y),  y ~ p,  r = log q(y) − log p(y)

    Gradient flows through log p(y) alone. The denominator counts all tokens. At a kept prefix the mean is ∇KL(p‖q):
    M does not depend on y.
    Proved by tests/identities/test_gates.py::test_entropy_opd_is_opd_on_the_kept_prefixes.
    """

    share: Share

    about = About(
        title="Entropy-OPD",
        paper="Wang et al., Beyond the 80/20 Rule, 2025, as TrOPD's baseline (arXiv:2606.01249v2, Table 1)",
        provenance="re-implemented from its description in TrOPD, v2",
    )
    signals = ("student_entropy",)
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("full", "sampled"),
        bias="∇KL(p‖q) at prefixes of high student entropy, 0 at the rest",
    )

    def weigh(self, signals: Signals, progress: float) -> Tensor:
        """M, over the whole batch."""
        return signals.top_share(signals["student_entropy"], self.share)

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−M sg[r] log p(y)."""
        reward = tokens.log_ratio
        return TokenLoss(score_loss(tokens.student_logp, reward), weight=tokens.weight, stats={"advantage": reward})
