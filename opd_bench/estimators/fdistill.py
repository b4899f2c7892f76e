"""f-distill: one symmetric divergence, each half on its own model's tokens."""

from dataclasses import dataclass
from typing import Literal

import torch

from opd_bench.estimators.base import STUDENT_AND_TEACHER_TOKENS, About, Claims, Estimator
from opd_bench.maths.divergences import reverse_kl, total_variation
from opd_bench.maths.targets import arithmetic
from opd_bench.tokens import Cost, Origin, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class FDistill(Estimator):
    """Full-vocabulary sums at prefixes that the teacher or the student wrote; m = (p + q)/2.

        total_variation  ℓ = ¼ Σ |q − p|             on both
        jsd              ℓ = ½ Σ q log(q/m)          on the teacher's tokens
                         ℓ = ½ Σ p log(p/m)          on the student's

    Gradient flows through p, in m too. Total variation is bounded in value and gradient.
    Proved by tests/identities/test_gates.py::test_fdistill_halves_add_up_to_the_jsd.
    """

    divergence: Literal["total_variation", "jsd"]

    about = About(
        title="f-distill",
        paper="Wen et al., f-Divergence Minimization for Sequence-Level KD, arXiv:2307.15190",
        provenance="re-implemented from the paper and the authors' code (MANGA-UOFA/fdistill)",
        deviations=("A coin per batch chooses whose tokens; the paper adds both terms in every step.",),
    )
    learns_from = STUDENT_AND_TEACHER_TOKENS

    @property
    def claims(self) -> Claims:
        """Exactly these sums."""
        target = "half_total_variation" if self.divergence == "total_variation" else "jsd_halves"
        return Claims(target=target, stationary=True, cost=Cost("full", "full"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """Half of the divergence."""
        student, teacher = tokens.student_log_probs, tokens.teacher_log_probs
        if self.divergence == "total_variation":
            return TokenLoss(total_variation(student, teacher) / 2)
        middle = arithmetic(student, teacher, 0.5)
        taught = tokens.origin == Origin.TEACHER
        return TokenLoss(torch.where(taught, reverse_kl(teacher, middle), reverse_kl(student, middle)) / 2)
