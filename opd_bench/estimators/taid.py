"""TAID: forward KL to a target that moves from the student to the teacher."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths import divergences
from opd_bench.maths.schedules import linear
from opd_bench.maths.targets import blended
from opd_bench.settings import Share
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class TAID(Estimator):
    """Full-vocabulary forward KL to a blend of logits.

        t = start + (end − start) · progress
        Q = softmax((1 − t) sg[z_p] + t z_q)
        ℓ = KL(Q‖p)

    Gradient p − Q flows through p, never through Q. t = 1 is the forward KL.
    Proved by tests/identities/test_gates.py::test_taid_ends_at_the_forward_kl.
    """

    start: Share
    end: Share

    about = About(
        title="TAID",
        paper="Shing et al., TAID, arXiv:2501.16937",
        provenance="re-implemented from the paper and the authors' code (SakanaAI/TAID)",
        deviations=("t follows the linear schedule; the adaptive step, which needs state, is left out.",),
    )
    learns_from = ANY_TOKENS
    claims = Claims(target="blended_forward_kl", stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL(Q‖p)."""
        share = linear(self.start, self.end, progress)
        target = blended(tokens.student_log_probs, tokens.teacher_log_probs, share)
        return TokenLoss(divergences.forward_kl(tokens.student_log_probs, divergences.floored(target)))
