"""SFT: imitate reference answers."""

from dataclasses import dataclass

from opd_bench.estimators.base import WRITTEN_TOKENS, About, Claims, Estimator
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SFT(Estimator):
    """Negative log-likelihood of the data's tokens.

        ℓ = −log p(y),  y from the data

    Gradient flows through log p(y). If the data were the teacher's samples its mean would be ∇KL(q‖p).
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="Supervised fine-tuning",
        paper="standard practice; as in Veto, arXiv:2601.07155, Table 1",
        provenance="re-implemented from its definition",
    )
    claims = Claims(target="forward_kl", stationary=True, cost=Cost("sampled", "nothing"))
    learns_from = WRITTEN_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−log p(y)."""
        return TokenLoss(-tokens.student_logp)
