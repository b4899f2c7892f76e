"""SKD: match the teacher along answers that the student proposes and the teacher corrects."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class SKD(Estimator):
    """Full-vocabulary forward KL on interleaved tokens; what makes it SKD is its source.

        ℓ = KL(q‖p) = Σ_v q(v) (log q(v) − log p(v))

    Gradient p − q flows through p, whoever wrote the token.
    Proved by tests/test_contract.py::test_mean_gradient_is_the_stated_target.
    """

    about = About(
        title="Speculative KD",
        paper="Xu et al., Speculative Knowledge Distillation, arXiv:2410.11325",
        provenance="re-implemented from the paper and the authors' code",
        deviations=(
            "No decoding and re-tokenising of proposals, and the response starts at its first token.",
            "Tokens are proposed and checked one by one; the paper's blocks of 5 give the same law.",
        ),
    )
    claims = Claims(target="forward_kl", stationary=True, cost=Cost("full", "full"))
    learns_from = ANY_TOKENS

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(q‖p)."""
        return TokenLoss(tokens.forward_kl)
