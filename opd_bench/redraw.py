"""Variance and bias at fixed prefixes as sums over them: enumerated, or from redrawn tokens where V is too large.

Sums, so that prefixes count by the size of their gradient and steps can be added up; `relative` makes the figures.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.enumeration import exact_moments, logit_gradient
from opd_bench.estimators.base import Estimator
from opd_bench.maths.divergences import forward_kl_gradient, log_probs, reverse_kl_gradient
from opd_bench.maths.moments import StreamingMoments
from opd_bench.rollouts.choices import sampled
from opd_bench.tokens import Origin, Signals, TokenBatch

LARGEST_VOCABULARY = 4096
"""Enumeration is quadratic in the vocabulary."""
ROUNDING = 1e-20
"""A squared mean below this share of E‖g‖² is 0, and 0 points nowhere."""


class Prefixes(NamedTuple):
    """Both models' logits [B, V] at prefixes that one writer has come by, and who that is."""

    student: Tensor
    teacher: Tensor
    writer: Origin

    @property
    def sampler(self) -> Tensor:  # [B, V]
        """Log-probabilities of the writer's next token; data are taken to be like the teacher's tokens."""
        return log_probs(self.student if self.writer == Origin.STUDENT else self.teacher)


def moment_sums(
    estimator: Estimator, prefixes: Prefixes, progress: float, uniform: Tensor | None = None
) -> dict[str, float]:
    """Σ over prefixes of tr Cov g, ‖E g‖², and for both KLs of ‖∇KL‖², ‖E g − ∇KL‖² and ⟨E g, ∇KL⟩.

    Exact for V ≤ LARGEST_VOCABULARY or without `uniform` [B, m, 2]; else every sum is unbiased over m redraws of the
    token and of the coins, and a squared length may come out below 0.
    """
    if not len(prefixes.student):
        return {}
    if uniform is None or prefixes.student.shape[-1] <= LARGEST_VOCABULARY:
        origin = prefixes.writer.name.lower()
        exact = exact_moments(estimator, prefixes.student, prefixes.teacher, progress=progress, origin=origin)
        return _sums(prefixes, exact.mean, exact.variance, torch.zeros_like(exact.variance))
    moments = redrawn_moments(estimator, prefixes, progress, uniform)
    noise = moments.unbiased_variance / moments.count
    return _sums(prefixes, moments.mean, moments.unbiased_variance, noise)


def redrawn_moments(
    estimator: Estimator, prefixes: Prefixes, progress: float, uniform: Tensor
) -> StreamingMoments:  # of [B, V]
    """Moments of the logit gradient over draws of the scored token; the first number draws it, the second its coins.

    One draw of all prefixes at a time, so memory is that of a few [B, V] whatever the number of draws.
    """
    moments, law = StreamingMoments(), prefixes.sampler
    for number in uniform.unbind(1):
        tokens = _tokens(prefixes, law, number)
        moments.add(logit_gradient(estimator, _weighed(estimator, tokens, progress), progress)[:, None])
    return moments


def relative(sums: dict[str, float]) -> dict[str, float]:
    """tr Cov/‖∇KL‖², ‖E g − ∇KL‖/‖∇KL‖ and the cosine of E g to ∇KL, the first with ∇KL(p‖q) alone."""
    if not sums.get("reverse_target"):
        return {}
    figures = {"relative_variance": sums["variance"] / sums["reverse_target"]}
    for kl in ("reverse", "forward"):
        target = sums[f"{kl}_target"]
        figures[f"bias_{kl}_kl"] = (max(0.0, sums[f"{kl}_error"]) / target) ** 0.5
        seen = sums["signal"] > ROUNDING * (sums["signal"] + sums["variance"])
        size = (sums["signal"] * target) ** 0.5 if seen else 0.0
        figures[f"cosine_{kl}_kl"] = sums[f"{kl}_along"] / size if size else float("nan")
    return figures


def _sums(prefixes: Prefixes, mean: Tensor, variance: Tensor, noise: Tensor) -> dict[str, float]:
    """`noise` [B] is what a mean over draws adds to every squared length."""
    student, teacher = log_probs(prefixes.student), log_probs(prefixes.teacher)
    sums = {"variance": variance, "signal": mean.square().sum(-1) - noise}
    for kl, exact in (
        ("reverse", reverse_kl_gradient(student, teacher)),
        ("forward", forward_kl_gradient(student, teacher)),
    ):
        sums[f"{kl}_target"] = exact.square().sum(-1)
        sums[f"{kl}_error"] = (mean - exact).square().sum(-1) - noise
        sums[f"{kl}_along"] = (mean * exact).sum(-1)
    return {name: float(value.sum()) for name, value in sums.items()}


def _tokens(prefixes: Prefixes, law: Tensor, number: Tensor) -> TokenBatch:
    token = sampled(law, number[:, 0])
    return TokenBatch(
        student_logits=prefixes.student.detach().clone().requires_grad_(),
        teacher_logits=prefixes.teacher,
        token=token,
        origin=torch.full_like(token, prefixes.writer),
        behaviour_logp=law.gather(-1, token[:, None])[:, 0],
        uniform=number[:, 1].to(law),
    )


@torch.no_grad()
def _weighed(estimator: Estimator, tokens: TokenBatch, progress: float) -> TokenBatch:
    """With what `weigh` makes of the prefixes, each a sequence of one token."""
    if not estimator.signals:
        return tokens
    rows = torch.arange(len(tokens.token), device=tokens.token.device)
    values = {name: getattr(tokens, name).detach() for name in estimator.signals}
    weight = estimator.weigh(Signals(values=values, sequence=rows, position=torch.zeros_like(rows)), progress)
    return replace(tokens, weight=weight, student_logits=tokens.student_logits.detach().requires_grad_())
