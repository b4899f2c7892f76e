"""Full-vocabulary reverse KL: OPD without the noise of the sampled token."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class OPDFull(Estimator):
    """The exact reverse KL of every visited prefix.

        ℓ = KL(p‖q) = Σ_v p(v) (log p(v) − log q(v))

    Gradient flows through p. It is OPD's gradient with its mean over the token taken by a sum, hence of variance 0
    at a fixed prefix, and it is the reference that bias is measured against.
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="OPD, full vocabulary",
        paper="Oh et al., vOPD, arXiv:2605.07865v1, baseline “full-V”",
        provenance="re-implemented from the paper, v1",
    )
    claims = Claims(target="reverse_kl", stationary=True, cost=Cost("full", "full"))
    learns_from = ANY_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(p‖q)."""
        return TokenLoss(tokens.reverse_kl)
