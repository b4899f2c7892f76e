"""Reverse KL on the likeliest tokens: four practices under one name."""

from dataclasses import dataclass
from typing import Literal

from opd_bench.estimators.base import ANY_TOKENS, About, Claims, Estimator
from opd_bench.maths.supports import REVERSE_KL_FORMS
from opd_bench.settings import Count
from opd_bench.tokens import Cost, Model, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class OPDTopK(Estimator):
    """Reverse KL restricted to S, the k likeliest tokens of the student or of the teacher; Δ = log p − log q.

        renormalised   ℓ = Σ_S p̄ (log p̄ − log q̄),  p̄ = p/P_S, q̄ = q/Q_S    blind to the mass outside S
        stop_gradient  ℓ = Σ_S p sg[Δ]                                        drops the tail's pull
        raw            ℓ = Σ_S p Δ                                            also drains S: not stationary at p = q
        tail_bucket    ℓ = Σ_S p Δ + (1 − P_S) log (1 − P_S)/(1 − Q_S)        a lower bound of KL(p‖q)

    Gradient flows through p; S is chosen without. With k ≥ V every form is the full reverse KL.
    Proved by tests/identities/test_supports.py.
    """

    k: Count
    ranked_by: Model
    form: Literal["renormalised", "stop_gradient", "raw", "tail_bucket"]

    about = About(
        title="OPD, top-k",
        paper="Oh et al., vOPD, arXiv:2605.07865v1, baseline “OPD top-k”",
        provenance="re-implemented from the paper, v1",
    )
    learns_from = ANY_TOKENS

    @property
    def claims(self) -> Claims:
        """Biased in every form while k < V."""
        bias = f"reverse KL on the {self.ranked_by}'s top {self.k} alone, {self.form}"
        return Claims(target=None, stationary=self.form != "raw", cost=Cost("top-k", "top-k"), bias=bias)

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """The chosen form on S."""
        return TokenLoss(REVERSE_KL_FORMS[self.form](tokens.topk(self.k, self.ranked_by)))
