"""Veto: distil from a geometric bridge between teacher and student that decays to the teacher."""

from dataclasses import dataclass
from typing import Literal

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths import divergences
from opd_bench.maths.schedules import linear
from opd_bench.maths.targets import geometric
from opd_bench.settings import NonNegative
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class Veto(Estimator):
    """KL to a target that both models must agree on.

        Q ∝ q · sg[p]^βᵢ,   βᵢ = β (1 − progress) if decay is linear, else β
        ℓ = KL(Q‖p)  forward: gradient p − Q, of norm at most √2
          = KL(p‖Q)  reverse: gradient of −E_p[log q] − (1 − βᵢ) H(p)

    Gradient flows through p, never through Q. For β > 0 the fixed point is q^{1/(1−β)}: sharper than the teacher.
    Proved by tests/identities/test_veto.py.
    """

    beta: NonNegative
    direction: Literal["forward_kl", "reverse_kl"]
    decay: Literal["linear", "constant"]

    about = About(
        title="Veto",
        paper="Jang, Yeom, Yeo, Lim & Kim, Veto, arXiv:2601.07155 (ACL 2026 Findings)",
        provenance="re-implemented from the authors' code (jjun-0824/Veto, 0ff04a0) and notes on the paper",
        deviations=(
            "β decays over global optimiser steps; in the code it ends at half its start on two processes.",
            "The response starts at its first token; the code drops that one and adds one past the end.",
            "Sampled at T = 1 like every method; the code samples at T = 0.5, top-p 0.5.",
            "Token mean over the batch; the code averages per sequence first.",
        ),
    )
    learns_from = ANY_TOKENS

    @property
    def claims(self) -> Claims:
        """Exactly the KL to Q, which is not the KL to the teacher while β > 0."""
        return Claims(target=f"geometric_{self.direction}", stationary=self.beta == 0, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """KL to Q in the chosen direction."""
        beta = linear(self.beta, 0.0, progress) if self.decay == "linear" else self.beta
        student = tokens.student_log_probs
        target = divergences.floored(geometric(student, tokens.teacher_log_probs, beta))
        divergence = divergences.forward_kl if self.direction == "forward_kl" else divergences.reverse_kl
        largest = (target - student.detach()).amax(-1)
        return TokenLoss(divergence(student, target), stats={"log_max_target_ratio": largest})
