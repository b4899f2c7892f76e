"""Shorthands: moments of a METHOD by enumeration, closed forms, and tokens enumerated by hand."""

from typing import Any

import torch
from torch import Tensor

from opd_bench import exact_moments, load_method
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Origin, TokenBatch
from tests.oracles import through
from tests.prefixes import prefix_pair

__all__ = ["cos", "every_token", "gradients", "mean", "prefix_pair", "same", "step", "through", "variance"]


def mean(method: Any, student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    return exact_moments(method, student, teacher, **options).mean


def variance(method: Any, student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    return exact_moments(method, student, teacher, **options).variance


def same(one: Tensor, other: Tensor, tolerance: float = 1e-10) -> bool:
    return bool((one - other).abs().max() < tolerance)


def cos(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one, other, dim=-1)


def every_token(student: Tensor, teacher: Tensor, uniform: float = 0.5, origin: Origin = Origin.STUDENT) -> TokenBatch:
    """One prefix [V], a row for every token of the vocabulary, on policy."""
    size = len(student)
    return TokenBatch(
        student_logits=student.expand(size, size).clone().requires_grad_(),
        teacher_logits=teacher.expand(size, size),
        token=torch.arange(size),
        origin=torch.full((size,), origin),
        behaviour_logp=student.log_softmax(-1),
        uniform=torch.full((size,), uniform, dtype=student.dtype),
    )


def gradients(name: str, tokens: TokenBatch, progress: float = 0.0, **fields: Any) -> Tensor:
    """The logit gradient of every row."""
    loss = load_method(name, **fields).estimator.token_loss(tokens, progress).loss
    return torch.autograd.grad(loss.sum(), tokens.student_logits, retain_graph=True)[0]


def step(name: str, student: Tensor, teacher: Tensor, progress: float = 0.0, **fields: Any) -> tuple[Tensor, Tensor]:
    """Loss and logit gradient of one step over sequences [B, T, V] of token 0."""
    leaf = student.clone().requires_grad_()
    shape = student.shape[:2]
    batch = ScoredBatch(
        student=leaf,
        teacher=teacher,
        token=torch.zeros(shape, dtype=torch.long),
        response=torch.ones(shape, dtype=torch.bool),
        origin=torch.full(shape, Origin.STUDENT),
        behaviour_logp=student.log_softmax(-1)[..., 0],
        uniform=torch.full(shape, 0.5, dtype=torch.float64),
    )
    loss = batch_loss(load_method(name, **fields).estimator, [batch], progress)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]
