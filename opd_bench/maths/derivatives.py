"""Values of logits whose derivative has a closed form: fewer passes over the vocabulary than a graph of operations.

Each equals what autograd makes of the plain formula: tests/test_derivatives.py.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from opd_bench.maths.divergences import LOG_ZERO, floored

Slope = Callable[[Tensor], Tensor]
"""The gradient in logits [N, V], given that in the value."""


def log_probs(logits: Tensor) -> Tensor:  # [N, V]
    """Floored log-softmax z − log Σ e^z, whose derivative along g is g − p Σ g; no gradient where the floor holds."""
    value = logits.detach().log_softmax(-1).clamp_min_(LOG_ZERO)

    def slope(upstream: Tensor) -> Tensor:
        kept = torch.ops.aten.threshold_backward(upstream, value, LOG_ZERO)
        found: Tensor = torch.ops.aten._log_softmax_backward_data(kept, value, -1, value.dtype)
        return found

    return _with_slope(logits, value, slope)


def log_probs_at(logits: Tensor, logsumexp: Tensor, index: Tensor) -> Tensor:  # [N, K]
    """Floored log p at K tokens each, whose derivative along g is Σ_k g_k (e_k − p)."""
    value = floored(logits.detach().gather(-1, index) - logsumexp[:, None])

    def slope(upstream: Tensor) -> Tensor:
        kept = upstream * (value > LOG_ZERO)
        law = (logits.detach() - logsumexp[:, None]).exp_()
        return law.mul_(-kept.sum(-1, keepdim=True)).scatter_add_(-1, index, kept)

    return _with_slope(logits, value, slope)


def reverse_kl(logits: Tensor, student: Tensor, teacher: Tensor) -> Tensor:  # [N]
    """KL(p‖q) of both log-probabilities, whose derivative is p ⊙ (Δ − KL), Δ = log p − log q."""
    law, gap = student.detach().exp(), student.detach() - teacher
    value = torch.einsum("nv,nv->n", law, gap)

    def slope(upstream: Tensor) -> Tensor:
        return gap.sub(value[:, None]).mul_(law).mul_(upstream[:, None])

    return _with_slope(logits, value, slope)


def _with_slope(logits: Tensor, value: Tensor, slope: Slope) -> Tensor:
    found: Tensor = _Known.apply(logits, value, slope)  # type: ignore[no-untyped-call]
    return found


class _Known(torch.autograd.Function):
    """A value as it is, with a derivative that is made when it is asked for."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, slope: Slope) -> Tensor:
        ctx.slope = slope
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.slope(upstream), None, None
