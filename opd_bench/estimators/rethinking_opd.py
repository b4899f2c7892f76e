"""Rethinking OPD: a policy-gradient term for every one of the student's likeliest tokens."""

from dataclasses import dataclass
from typing import Literal

import torch

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths.supports import candidate_score
from opd_bench.settings import Count
from opd_bench.tokens import Cost, Model, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class RethinkingOPD(Estimator):
    """Each candidate in S gets its own advantage A_v = −w_v Δ_v, Δ = log p − log q.

        S = top-k of the student (or of the teacher)
        w = p/P_S (or q/Q_S, or 1)
        ℓ = −Σ_S sg[A_v] p(v)/sg[p(v)]

    Gradient flows through p(v)/sg[p(v)], whose value is 1. With w = p/P_S it is Σ_S Δ ∇p / P_S.
    Proved by tests/identities/test_supports.py::test_rethinking_is_the_stop_gradient_form_over_its_mass.
    """

    k: Count
    ranked_by: Model
    weighting: Literal["student", "teacher", "none"]

    about = About(
        title="Rethinking OPD",
        paper="Rethinking OPD, arXiv:2604.13016",
        provenance="re-implemented from the authors' code (thunlp/OPD, 0a44395)",
        deviations=("One update per rollout: the PPO ratio is 1, so its clips and the ±20 clamp never bind.",),
    )
    learns_from = ANY_TOKENS
    claims = Claims(
        target=None,
        stationary=True,
        cost=Cost("top-k", "top-k"),
        bias="the candidates' policy gradients alone, without the tail's and over their own mass",
    )

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """Σ_S w Δ p/sg[p]."""
        support = tokens.topk(self.k, self.ranked_by)
        match self.weighting:
            case "student":
                weight = support.student.softmax(-1)
            case "teacher":
                weight = support.teacher.softmax(-1)
            case "none":
                weight = torch.ones_like(support.student)
        return TokenLoss(candidate_score(support, weight))
