"""AOPD: reinforce what the teacher likes more, imitate the teacher where it likes the token less."""

from dataclasses import dataclass

import torch

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.maths.supports import forward_kl_on
from opd_bench.settings import Count
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class AOPD(Estimator):
    """Policy gradient on positive advantages, forward KL on the teacher's top k elsewhere.

        r = log q(y) − log p(y)
        ℓ = −sg[r] log p(y)                              if r > 0
          = Σ_{top-k of q} q (log q − log p)             if r ≤ 0,  y ~ p

    Gradient flows through log p. Not stationary: at p = q every token takes the second branch, whose sum pulls mass
    into the top k.
    Proved by tests/identities/test_gates.py::test_aopd_splits_at_the_sign_of_the_advantage.
    """

    k: Count

    about = About(
        title="AOPD",
        paper="AOPD, arXiv:2605.06387",
        provenance="re-implemented from notes on the paper",
        deviations=("Token mean over the batch; the paper averages per sequence first.", "k = 16 is ours."),
    )
    claims = Claims(
        target=None,
        stationary=False,
        cost=Cost("top-k", "top-k"),
        bias="OPD's positive part, forward KL in place of its negative part",
    )

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """OPD where r > 0, else the teacher's top k."""
        reward = tokens.log_ratio
        imitation = forward_kl_on(tokens.topk(self.k, "teacher"), renormalise=False)
        loss = torch.where(reward > 0, score_loss(tokens.student_logp, reward), imitation)
        return TokenLoss(loss, stats={"advantage": reward, "imitated": (reward <= 0).to(reward.dtype)})
