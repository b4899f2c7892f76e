"""GKD: generalised Jensen–Shannon divergence on student or data tokens."""

from dataclasses import dataclass

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths.divergences import jsd
from opd_bench.settings import Share
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class GKD(Estimator):
    """Full-vocabulary divergence; the source tosses λ per batch between the student's and the data's tokens.

        ℓ = β KL(q‖m) + (1 − β) KL(p‖m),  m = βq + (1 − β)p
          = KL(q‖p) for β = 0,  KL(p‖q) for β = 1      (the limits of JSD/β and JSD/(1 − β))

    Gradient flows through p, in m too. Its norm shrinks with β and 1 − β: compare at tuned learning rates.
    Proved by tests/identities/test_landscape.py::test_jsd_tends_to_both_kls.
    """

    beta: Share

    about = About(
        title="GKD",
        paper="Agarwal et al., On-Policy Distillation of Language Models (GKD), arXiv:2306.13649",
        provenance="re-implemented from the paper; β = 0 and 1 mean the two KLs as in TRL",
    )
    learns_from = ANY_TOKENS

    @property
    def claims(self) -> Claims:
        """Exactly the divergence of that β."""
        target = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(self.beta, "jsd")
        return Claims(target=target, stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """JSD_β."""
        return TokenLoss(jsd(tokens.student_log_probs, tokens.teacher_log_probs, self.beta))
