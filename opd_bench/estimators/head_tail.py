"""Head and tail: exact where the student's mass is, sampled where it is not."""

from dataclasses import dataclass

from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.score import score_loss
from opd_bench.maths.supports import stop_gradient
from opd_bench.settings import Count
from opd_bench.tokens import Cost, TokenBatch, TokenLoss


@dataclass(kw_only=True, eq=False)
class HeadTail(Estimator):
    """An unbiased top-k reverse KL.

        S = top-k of the student,  Δ = log p − log q
        ℓ = Σ_S p sg[Δ] + 1[y ∉ S] sg[Δ(y)] log p(y),  y ~ p

    Gradient flows through p on S and through log p(y) outside. Its mean is ∇KL(p‖q) for every k.
    Proved by tests/identities/test_supports.py::test_head_and_sampled_tail_are_unbiased_and_quieter.
    """

    k: Count

    about = About(
        title="Head + sampled tail",
        paper="EMA-PG's estimator; optional “tail sampling” in Revisiting OPD, arXiv:2603.25562",
        provenance="re-implemented from notes and from hhh675597/revisiting_opd (d10aedb)",
        deviations=("k = 20 is ours, to stand beside vOPD's.",),
    )
    claims = Claims(target="reverse_kl", stationary=True, cost=Cost("top-k", "top-k"))

    def token_loss(self, tokens: TokenBatch, progress: float) -> TokenLoss:
        """Head by a sum, tail by the sampled token."""
        head = tokens.topk(self.k, "student")
        outside = (~head.contains(tokens.token)).to(tokens.student_logp.dtype)
        loss = stop_gradient(head) + outside * score_loss(tokens.student_logp, tokens.log_ratio)
        return TokenLoss(loss, stats={"in_tail": outside})
