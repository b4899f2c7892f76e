"""SeqKD: imitate the teacher's answers."""

from dataclasses import dataclass

from opd_bench.estimators.base import WRITTEN_TOKENS, About, Claims, Estimator
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SeqKD(Estimator):
    """Negative log-likelihood of the teacher's tokens.

        ℓ = −log p(y),  y ~ q

    Gradient flows through log p(y). On whole answers sampled at T = 1 its mean is the gradient of the sequence-level
    KL(q‖p); a beam would only approximate that.
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="Sequence-level KD",
        paper="Kim & Rush, Sequence-Level Knowledge Distillation, arXiv:1606.07947",
        provenance="re-implemented from the paper",
        deviations=("Answers are sampled at T = 1; the paper takes the best of a beam.",),
    )
    claims = Claims(target="forward_kl", stationary=True, cost=Cost("sampled", "nothing"))
    learns_from = WRITTEN_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−log p(y)."""
        return TokenLoss(-tokens.student_logp)
