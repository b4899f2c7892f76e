"""Closed forms equal what autograd makes of the plain formula, in value and in derivative."""

import pytest
import torch

from opd_bench.maths import derivatives, divergences

N, V = 5, 11


def logits(seed: int, with_holes: bool) -> torch.Tensor:
    found = 3 * torch.randn(N, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if with_holes:
        found[0, 2] = found[3, 7] = -torch.inf
    return found


def slopes(function, student: torch.Tensor, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = student.clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value, leaf, upstream.expand_as(value))[0]


def plain_at(leaf, index):
    return divergences.floored(leaf.gather(-1, index) - leaf.logsumexp(-1, keepdim=True))


INDEX = torch.randint(V, (N, 4), generator=torch.Generator().manual_seed(9))
INDEX[0, 1] = 2  # where there may be a hole
INDEX[3, 0] = INDEX[3, 2] = 7  # one token twice
CLOSED = {
    "log_probs": (derivatives.log_probs, divergences.log_probs),
    "log_probs_at": (
        lambda leaf: derivatives.log_probs_at(leaf, leaf.detach().logsumexp(-1), INDEX),
        lambda leaf: plain_at(leaf, INDEX),
    ),
    "reverse_kl": (
        lambda leaf: derivatives.reverse_kl(leaf, derivatives.log_probs(leaf), TEACHER),
        lambda leaf: divergences.reverse_kl(divergences.log_probs(leaf), TEACHER),
    ),
}
TEACHER = divergences.log_probs(logits(1, with_holes=True))


@pytest.mark.parametrize("with_holes", [False, True])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_equal_autograd(name, with_holes):
    closed, plain = CLOSED[name]
    student = logits(0, with_holes)
    shape = plain(student).shape
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for fast, slow in zip(slopes(closed, student, upstream), slopes(plain, student, upstream), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-13)


def test_a_value_without_gradient_makes_no_derivative():
    leaf = logits(0, with_holes=False)
    assert not derivatives.reverse_kl(leaf, derivatives.log_probs(leaf), TEACHER).requires_grad
