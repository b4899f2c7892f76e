"""MiniLLM: the sequence-level reverse KL, its one-step part in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from opd_bench.estimators.base import STUDENT_AND_TEACHER_TOKENS, About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.settings import Share
from opd_bench.tokens import Cost, Signals, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class MiniLLM(Estimator):
    """Exact KL of this step plus a policy gradient on the rewards of the steps to come.

        r = log q(y) − log p(y)
        R_t = Σ_{u>t} γ^{u−t} r_u,  over the number of those steps if length_norm
        ℓ = sg[w] (KL(p‖q) − sg[R] log p(y)),  w = p(y)/p̃(y),  y ~ p̃ = αq + (1 − α)p (the source)

    Gradient flows through p and log p(y). With γ = 1 and no length_norm, on the student's own samples, it is exactly
    the sequence-level reverse KL; with γ = 0 exactly the token-level one.
    Proved by tests/identities/test_sequences.py::test_minillm_is_the_sequence_level_gradient.
    """

    gamma: Share
    length_norm: bool

    about = About(
        title="MiniLLM",
        paper="Gu et al., MiniLLM, arXiv:2306.08543",
        provenance="re-implemented from the paper; the authors' code (microsoft/LMOps) differs and was read",
        deviations=(
            "No language-model loss on a second corpus, no PPO epochs and no clipping of the ratio.",
            "The return starts after the current step as in the paper; in the code it includes it.",
            "No whitening; the code whitens over the padded batch.",
        ),
    )
    learns_from = STUDENT_AND_TEACHER_TOKENS
    signals = ("log_ratio",)
    claims = Claims(target="reverse_kl", stationary=True, cost=Cost("full", "full"))

    def weigh(self, signals: Signals, progress: float) -> Tensor:
        """R, the return of the steps to come."""
        reward = signals["log_ratio"]
        returns = signals.after(reward, self.gamma)
        steps = signals.total(torch.ones_like(reward)) - signals.position - 1
        return returns / steps.clamp_min(1) if self.length_norm else returns

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """sg[w] (KL − sg[R] log p(y))."""
        returns = torch.zeros_like(tokens.student_logp) if tokens.weight is None else tokens.weight
        loss = tokens.reverse_kl + score_loss(tokens.student_logp, returns)
        return TokenLoss(loss, weight=tokens.importance, stats={"return": returns, "importance": tokens.importance})
