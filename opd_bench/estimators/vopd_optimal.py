"""OPD with the best of all constant baselines."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import optimal_baseline, score_loss
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class VOPDOptimal(Estimator):
    """vOPD with the constant that minimises the total variance of the logit gradient instead of the mean reward.

        b* = E_p[r ‖e_y − p‖²] / E_p[‖e_y − p‖²],  ‖e_y − p‖² = 1 − 2p(y) + ‖p‖²
        ℓ = −sg[r − b*] log p(y),  y ~ p

    Gradient flows through log p(y) alone; the mean stays ∇KL(p‖q). Where vOPD's baseline can raise the variance of
    a prefix, this one cannot.
    Proved by tests/identities/test_vopd.py::test_the_optimal_constant_is_never_worse.
    """

    about = About(
        title="vOPD, variance-optimal baseline",
        paper="after Oh et al., vOPD, arXiv:2605.07865v1, Eq. 11",
        provenance="author",
    )
    claims = Claims(target="reverse_kl", stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """−sg[r − b*] log p(y)."""
        student = tokens.student_log_probs.detach()
        baseline = optimal_baseline(student, tokens.teacher_log_probs - student)
        advantage = tokens.log_ratio - baseline
        stats = {"advantage": advantage, "baseline": baseline}
        return TokenLoss(score_loss(tokens.student_logp, advantage), stats=stats)
